"""The artifact store: immutable directories named by their content, made whole or not at all.

    <root>/<asset>[/<partition>]/<version>/…          the files, and manifest.json
    <root>/<asset>[/<partition>]/makings/<fp>.json     what one making (fingerprint fp) produced, from what
    <root>/<asset>[/<partition>]/current.json          the last making whose blocking checks all passed
    <root>/<asset>[/<partition>]/pruned/<version>.json what is remembered of a version that was removed
    <root>/.staging/…  <root>/.scratch/…               being written; kept between tries of one making
    <root>/.trash/…                                    being removed

A stage writes into a staging directory; publishing hashes the files, writes the manifest and renames the directory
into place, so that nothing half-written is ever visible. `version` is a hash of the files alone: the same content
made again, from whatever inputs, is the same version, and what is downstream of it stays as it is.
A making's fingerprint is the hash of everything that decides it (code, settings, inputs); the same fingerprint is
never made twice.
"""

from smartdevdigest_ops.artifacts.artifact import MANIFEST, Artifact
from smartdevdigest_ops.artifacts.content import canonical_json, content_hash, file_sha256, version_of
from smartdevdigest_ops.artifacts.files import ArtifactError, read_sealed, sealed_json, write_atomically
from smartdevdigest_ops.artifacts.making import INPUTS_FILE, Making, read_record
from smartdevdigest_ops.artifacts.store import ArtifactStore

__all__ = [
    "INPUTS_FILE",
    "MANIFEST",
    "Artifact",
    "ArtifactError",
    "ArtifactStore",
    "Making",
    "canonical_json",
    "content_hash",
    "file_sha256",
    "read_record",
    "read_sealed",
    "sealed_json",
    "version_of",
    "write_atomically",
]
