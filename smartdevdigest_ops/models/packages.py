"""A GGUF file that installed Python packages carry: found without importing them, joined, and checked.

    package:NAME/FILE.gguf                          one file of one package
    package:PATTERN/FILE.gguf.part*#sha256=HEX      parts, cut from one file byte by byte, in one or several packages

A package index limits the size of a file, so larger models come in parts. `*` stands for anything in package names and
file names; parts are joined in the order of their file names, numbers by value. Whether all are there only the hash
can tell, so it is required. (The splits that llama.cpp names `-00001-of-00004.gguf` are GGUF files of their own and
are not joined this way.)
"""

import importlib.util
import pkgutil
import re
import shutil
from dataclasses import dataclass
from fnmatch import fnmatch
from glob import escape
from pathlib import Path

from smartdevdigest_ops.artifacts import file_sha256
from smartdevdigest_ops.errors import UserError
from smartdevdigest_ops.models.terms import is_legal_file

PACKAGE_PREFIX = "package:"


class BaseModelError(UserError):
    """`model.base_model` names nothing that can be used."""


@dataclass(frozen=True)
class PackagedModel:
    """Where the bytes of a GGUF file are."""

    reference: str
    parts: tuple[Path, ...]
    """In order; one for a file that is whole."""
    sha256: str | None
    """Of the whole file, in hex, where the reference states it."""
    legal_files: tuple[Path, ...]
    """Licence, notice and terms that the packages carry."""

    @property
    def file_name(self) -> str:
        """Name of the whole file."""
        name = self.parts[0].name
        return name[: name.index(".gguf") + len(".gguf")]


def find_packaged_model(base_model: str) -> PackagedModel:
    """What `package:...` names. Packages are looked up, not imported.

    Raises:
        BaseModelError: the form is wrong, or package or file is not there.
    """
    reference, _, stated = base_model.removeprefix(PACKAGE_PREFIX).partition("#")
    package, _, name = reference.partition("/")
    is_split = "*" in reference
    is_gguf = ".gguf" in name if is_split else name.endswith(".gguf")
    if not package.replace("*", "").isidentifier() or not is_gguf or name.startswith("/"):
        raise BaseModelError(
            f"model.base_model is {base_model!r}; expected package:NAME/FILE.gguf, with the name that Python imports "
            "and a GGUF file inside that package, or package:PATTERN/FILE.gguf.part*#sha256=HEX for one in parts."
        )
    sha256 = _stated_sha256(base_model, stated, is_split)
    folders = _package_folders(base_model, package)
    file_pattern = escape(name).replace("[*]", "*")
    parts = [file for folder in folders for file in folder.glob(file_pattern) if _is_inside(file, folder)]
    if not parts:
        there = sorted(str(found.relative_to(folder)) for folder in folders for found in folder.rglob("*.gguf*"))
        raise BaseModelError(
            f"model.base_model is {base_model!r}, but package {package!r} carries no {name!r}. "
            f"GGUF files in it: {', '.join(there) or 'none'}."
        )
    places = {place for folder in folders for place in (folder, (folder / name).parent) if place.is_dir()}
    legal = sorted(
        (file for place in places for file in place.iterdir() if is_legal_file(file.name) and file.is_file()),
        key=lambda file: (file.name, file),
    )
    return PackagedModel(base_model, tuple(sorted(parts, key=_by_number)), sha256, tuple(legal))


def joined_file(model: PackagedModel, scratch: Path) -> Path:
    """The GGUF file: the one there is, or the parts joined in `scratch`, with its hash checked where one is stated.

    Raises:
        BaseModelError: the hash is another.
    """
    file = model.parts[0]
    if len(model.parts) > 1:
        file = scratch / model.file_name
        with file.open("wb") as whole:
            for part in model.parts:
                with part.open("rb") as stream:
                    shutil.copyfileobj(stream, whole, 1 << 20)
    if model.sha256 and (found := file_sha256(file)) != model.sha256:
        joined = ", ".join(part.name for part in model.parts)
        raise BaseModelError(
            f"model.base_model is {model.reference!r}, but {joined} make a file with SHA-256 {found}: a part is "
            "missing, damaged or of another version. Install the packages again."
        )
    return file


def _stated_sha256(base_model: str, stated: str, is_split: bool) -> str | None:
    if not stated and not is_split:
        return None
    found = re.fullmatch(r"sha256=([0-9a-f]{64})", stated)
    if found is None:
        raise BaseModelError(
            f"model.base_model is {base_model!r}; expected #sha256= and 64 hex digits (small letters) at its end, the "
            "SHA-256 of the whole file. Parts need it: nothing else says that none is missing."
        )
    return found[1]


def _package_folders(base_model: str, pattern: str) -> list[Path]:
    """Directories of the installed packages that match, by package name."""
    names = [pattern]
    if "*" in pattern:
        names = sorted({module.name for module in pkgutil.iter_modules() if fnmatch(module.name, pattern)})
    found = [spec for name in names if (spec := importlib.util.find_spec(name)) and spec.submodule_search_locations]
    if not found:
        raise BaseModelError(
            f"model.base_model is {base_model!r}, but no package {pattern!r} is installed here. Install it (its files "
            "are all that is used: --no-deps is enough; an extra of pyproject.toml may name it), or name another "
            "model: hf:ORG/NAME or a local directory."
        )
    return [Path(next(iter(spec.submodule_search_locations or ()))).resolve() for spec in found]


def _is_inside(file: Path, folder: Path) -> bool:
    return file.resolve().is_relative_to(folder) and file.is_file()


def _by_number(file: Path) -> tuple[list[tuple[int, str]], Path]:
    """Sort key: `part2` before `part10`."""
    return [(int(piece), "") if piece.isdigit() else (0, piece) for piece in re.split(r"(\d+)", file.name)], file
