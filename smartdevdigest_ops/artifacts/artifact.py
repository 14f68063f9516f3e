"""One published version of an asset, and whether it is still what was published."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smartdevdigest_ops.artifacts.content import file_sha256
from smartdevdigest_ops.artifacts.files import ArtifactError

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Artifact:
    """One published version of an asset."""

    asset: str
    partition: str | None
    version: str
    path: Path
    files: Mapping[str, Mapping[str, Any]]
    """Relative path -> {"sha256", "bytes"}."""

    def is_complete(self) -> bool:
        """Whether every file is there in its size: what can be told without reading them (`problems` reads)."""
        try:
            return all((self.path / name).stat().st_size == entry["bytes"] for name, entry in self.files.items())
        except OSError:
            return False

    def problems(self) -> list[str]:
        """What differs from the manifest, file by file; empty when every byte is as published."""
        found = [problem for name in self.files if (problem := self._problem(name))]
        known = {*self.files, MANIFEST}
        extra = [f for f in self.path.rglob("*") if f.is_file() and str(f.relative_to(self.path)) not in known]
        return found + [f"{file}: not in the manifest" for file in sorted(extra)]

    def _problem(self, name: str) -> str | None:
        file, expected = self.path / name, self.files.get(name)
        if expected is None or not file.is_file():
            return f"{file}: missing"
        try:
            num_bytes = file.stat().st_size
            if num_bytes != expected["bytes"]:
                return f"{file}: {num_bytes} bytes, published with {expected['bytes']}"
            if file_sha256(file) != expected["sha256"]:
                return f"{file}: content differs from what was published (sha256)"
        except FileNotFoundError:  # removed meanwhile
            return f"{file}: missing"
        return None

    def refuse_damage(self) -> None:
        """Read every byte.

        Raises:
            ArtifactError: one differs from what was published.
        """
        if problems := self.problems():
            raise ArtifactError(
                f"{self.asset} {self.version} is damaged, and nothing was made from it: {'; '.join(problems[:3])}. "
                f"Remove the directory {self.path} and run again: it is made anew."
            )

    def sound_file(self, name: str) -> Path:
        """Path of one file, every byte of it checked.

        Raises:
            ArtifactError: it is missing, or differs from what was published.
        """
        if problem := self._problem(name):
            raise ArtifactError(
                f"{self.asset} {self.version} is damaged, and nothing was read from it: {problem}. Remove the "
                f"directory {self.path} and run again: it is made anew."
            )
        return self.path / name
