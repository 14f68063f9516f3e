"""The record of one making of an asset."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from smartdevdigest_ops.artifacts.files import ArtifactError, read_sealed

INPUTS_FILE = "inputs.json"
"""In the scratch of a making that is not finished: what it reads."""


@dataclass(frozen=True)
class Making:
    """The record of one making: what it came from and what it measured."""

    asset: str
    partition: str | None
    version: str
    fingerprint: str
    inputs: dict[str, Any]
    """Asset -> version, or {partition: version}; `file:NAME` -> sha256 of a file from outside."""
    settings: dict[str, Any]
    code_version: str
    environment: dict[str, str]
    resources: dict[str, Any]
    """device, wall_seconds, energy_joules (null where not readable), peak_rss_bytes, peak_gpu_bytes (null: no GPU)."""
    metrics: dict[str, float]
    checks: list[dict[str, Any]]
    """{"name", "passed", "blocking", "message", "metadata"} of every check of the asset."""
    notes: dict[str, Any] = field(default_factory=dict)
    """Tables and Markdown for a reader; `markdown` and `report_html` are shown in the UI."""
    created: str = ""
    documents: dict[str, list[str]] = field(default_factory=dict)
    """How documents were used -> ids of those, where it was some of an input's and the inputs do not say which."""
    in_place_of: str = ""
    """Fingerprint of the making that this one stands for, because somebody decided so; empty of all others."""

    @property
    def flat_settings(self) -> dict[str, Any]:
        """Settings that decided it, by dotted name."""
        return dict(_flat(self.settings))

    @property
    def passed_gates(self) -> bool:
        """Whether every blocking check passed, so that others may build on it."""
        return all(check["passed"] for check in self.checks if check["blocking"])

    def answers(self, fingerprint: str) -> bool:
        """Whether this is what the making with this fingerprint was to be."""
        return fingerprint in (self.fingerprint, self.in_place_of)

    def sources(self) -> Iterator[tuple[str, str | None, str]]:
        """(asset, partition, version) of every input."""
        for asset, versions in self.inputs.items():
            if isinstance(versions, dict):
                yield from ((asset, partition, version) for partition, version in versions.items())
            elif not asset.startswith("file:"):
                yield asset, None, versions


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in settings.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def read_record(path: Path) -> Making:
    """The making that a record tells of.

    Raises:
        ArtifactError: it is no record, or not what was written.
    """
    try:
        return Making(**read_sealed(path))
    except (TypeError, ArtifactError) as error:
        raise ArtifactError(
            f"{path}: is not the record of a making that was written here ({error}). It counts as never made; run "
            "again, and the artifact is made and recorded anew."
        ) from None
