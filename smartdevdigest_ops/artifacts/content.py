"""Hashes of contents, by which versions and makings are named."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_ID_CHARACTERS = 16


def content_hash(data: bytes | str) -> str:
    """First 16 hex digits of the SHA-256 of `data`."""
    return hashlib.sha256(data.encode() if isinstance(data, str) else data).hexdigest()[:_ID_CHARACTERS]


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no white space: equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def version_of(files: Mapping[str, Mapping[str, Any]]) -> str:
    """Version of these files: a hash of their names and contents."""
    return content_hash(canonical_json({name: entry["sha256"] for name, entry in files.items()}))
