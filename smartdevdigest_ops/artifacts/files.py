"""Files that a reader sees whole or not at all, and that tell when they are not what was written."""

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from smartdevdigest_ops.artifacts.content import content_hash
from smartdevdigest_ops.errors import UserError

_SEAL = ',\n  "seal": "'


class ArtifactError(UserError):
    """An artifact is missing, damaged or not what was asked for."""


def write_atomically(path: Path, text: str) -> None:
    """Write `text` so that a reader sees the old file or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with os.fdopen(handle, "w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    Path(temporary).replace(path)


def sync(path: Path) -> None:
    """Flush a file or directory to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sealed_json(value: Mapping[str, Any]) -> str:
    """JSON whose last entry is a hash of the text before it."""
    body = json.dumps(value, indent=2, ensure_ascii=False).removesuffix("\n}")
    return f'{body}{_SEAL}{content_hash(body)}"\n}}'


def read_sealed(path: Path) -> dict[str, Any]:
    """What `sealed_json` wrote into a file. One that was written before there were seals is taken as it is.

    Raises:
        ArtifactError: it cannot be read, or is not what was written.
    """
    try:
        text = path.read_text(encoding="utf-8")
        body, seal, rest = text.rpartition(_SEAL)
        if seal and rest != f'{content_hash(body)}"\n}}':
            raise ValueError("its seal does not fit its text")
        value: dict[str, Any] = json.loads(f"{body}\n}}" if seal else text)
    except (OSError, ValueError) as error:
        raise ArtifactError(
            f"{path}: is not what was written there ({error}), and nothing was taken from it."
        ) from None
    return value
