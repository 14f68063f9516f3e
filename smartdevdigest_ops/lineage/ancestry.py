"""What an artifact was made from: its whole ancestry, with versions, settings and documents."""

import json
import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from smartdevdigest_ops.artifacts import MANIFEST, ArtifactError, ArtifactStore, Making
from smartdevdigest_ops.errors import UserError
from smartdevdigest_ops.lineage.document_index import DocumentIndex, document_files, split_of
from smartdevdigest_ops.lineage.impact import Version, name_of, open_or_recall
from smartdevdigest_ops.lineage.uses import HOLDERS, USES
from smartdevdigest_ops.stage.registry import STAGE_MODULES, get_stage

_REFERENCE = re.compile(r"(?P<asset>\w+)(\[(?P<partition>[^\]]+)\])?(@(?P<version>\w+))?")


class LineageError(UserError):
    """What was asked for is no artifact of the store."""


@dataclass(frozen=True)
class Ancestor:
    """A version in the ancestry of another, or that one itself."""

    version: Version
    making: Making | None
    """The last one that came to this version; None where no record is left."""
    state: str
    """`current`, `in the store`, `pruned` or `gone`."""


def find_version(store: ArtifactStore, reference: str) -> Version:
    """The version that `ASSET`, `ASSET[DROP]`, either with `@VERSION`, or a path names; without version the current.

    Raises:
        LineageError: there is no such asset, drop or version.
    """
    if (named := _version_at(store, Path(reference))) is not None:
        return named
    found = _REFERENCE.fullmatch(reference)
    if found is None or found["asset"] not in STAGE_MODULES:
        raise LineageError(f"There is no asset {reference!r}. Assets: {', '.join(STAGE_MODULES)}.")
    asset, partition, version = found["asset"], found["partition"], found["version"]
    if partition and not get_stage(asset).partitioned:
        raise LineageError(f"{asset} does not come by drop; ask for {asset}.")
    if version is not None:
        known = sorted({each.version for each in store.makings(asset) if each.partition == partition})
        if version not in known:
            raise LineageError(
                f"{reference} was never made in {store.root}. Versions on record: {', '.join(known) or 'none'}."
            )
        return asset, partition, version
    making = store.current_making(asset, partition)
    if making is None:
        partitions = [f"{asset}[{key}]" for key in store.partitions(asset)]
        said = f"It comes by drop: {', '.join(partitions)}." if partitions else "`smartdevdigest run` makes it."
        raise LineageError(f"{reference} has no current version in {store.root}. {said}")
    return asset, partition, making.version


def _version_at(store: ArtifactStore, path: Path) -> Version | None:
    """The version in whose directory a path lies."""
    for directory in (path.resolve(), *path.resolve().parents):
        if (directory / MANIFEST).is_file() and directory.is_relative_to(store.root.resolve()):
            asset, *partition, version = directory.relative_to(store.root.resolve()).parts
            return asset, partition[0] if partition else None, version
    return None


def find_ancestry(store: ArtifactStore, version: Version) -> list[Ancestor]:
    """The version itself, then everything that it was made from, downstream first, each once."""
    last: dict[Version, Making] = {}
    loaded: set[str] = set()
    needed, waiting = {version}, [version]
    while waiting:
        each = waiting.pop()
        if each[0] not in loaded:
            loaded.add(each[0])
            for making in store.makings(each[0]):
                key = (making.asset, making.partition, making.version)
                if key not in last or making.created >= last[key].created:
                    last[key] = making
        for source in last[each].sources() if each in last else ():
            if source not in needed:
                needed.add(source)
                waiting.append(source)
    rank = {asset: place for place, asset in enumerate(reversed(STAGE_MODULES))}
    ordered = sorted(needed, key=lambda key: (rank.get(key[0], len(rank)), key[1] or "", key[2]))
    return [Ancestor(key, last.get(key), _state(store, key)) for key in ordered]


def nearest_ancestors(store: ArtifactStore, version: Version) -> dict[str, Ancestor]:
    """Asset -> its version that this one was made from by the shortest way, the version itself included.

    For assets that do not come by drop. What a model only calibrates or measures on is no way while another is left:
    the snapshot behind a model is the one that it learned from, not a later one that it was quantized on. Of equally
    short ways the one through the earlier stage counts.
    """
    ancestors = {each.version: each for each in find_ancestry(store, version)}
    nearest: dict[str, Ancestor] = {}
    seen: set[Version] = set()
    waiting, last = deque([version]), deque[Version]()
    while waiting or last:
        each = waiting.popleft() if waiting else last.popleft()
        if each in seen or each[1] is not None:
            continue
        seen.add(each)
        nearest.setdefault(each[0], ancestors[each])
        making = ancestors[each].making
        for source in sorted(making.sources(), key=_place) if making else ():
            (waiting if _learns_from(each[0], source[0]) else last).append(source)
    return nearest


def _learns_from(asset: str, source: str) -> bool:
    roles = [use.role for use in USES.get(asset, ()) if use.input == source]
    return not roles or "trained" in roles


def _place(version: Version) -> tuple[int, str, str]:
    asset, partition, number = version
    places = list(STAGE_MODULES)
    return (places.index(asset) if asset in places else len(places)), partition or "", number


def _state(store: ArtifactStore, version: Version) -> str:
    asset, partition, number = version
    making = store.current_making(asset, partition)
    if making is not None and making.version == number:
        return "current"
    try:
        store.open(asset, number, partition)
    except ArtifactError:
        return "pruned" if store.pruned(asset, number, partition) else "gone"
    return "in the store"


def ancestry_lines(store: ArtifactStore, version: Version) -> Iterator[str]:
    """For a reader: a block per ancestor; drops that were cleaned alike are counted, not told one by one."""
    index = DocumentIndex(store)
    drops: dict[str, list[Ancestor]] = {}
    for ancestor in find_ancestry(store, version):
        asset, partition, _ = ancestor.version
        if partition is not None and ancestor.version != version:
            drops.setdefault(asset, []).append(ancestor)
            continue
        yield from _block(store, index, ancestor)
    for asset, ancestors in drops.items():
        yield f"{asset}: {len(ancestors)} drops"
        numbers = [_num_documents(store, index, each.version) for each in ancestors]
        known = [sum(number.values()) for number in numbers if number is not None]
        yield f"  {HOLDERS[asset]} {sum(known)} documents" + _unknown(len(numbers) - len(known))
        yield f"  {', '.join(name_of(each.version).removeprefix(asset) for each in ancestors)}"


def _unknown(number: int) -> str:
    return f", and those of {number} drops that are gone or damaged" if number else ""


def _block(store: ArtifactStore, index: DocumentIndex, ancestor: Ancestor) -> Iterator[str]:
    making = ancestor.making
    yield f"{name_of(ancestor.version)} ({ancestor.state})"
    if making is None:
        yield "  no record of its making"
        return
    yield f"  made {making.created or 'at an unknown time'}, code {making.code_version}"
    if making.settings:
        told = (f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in sorted(making.settings.items()))
        yield f"  settings {', '.join(told)}"
    yield from (f"  {line}" for line in _document_lines(store, index, ancestor.version, making))
    if "decision" in making.notes:
        yield f"  decision {json.dumps(making.notes['decision'], ensure_ascii=False)}"
    sources = [name_of(source) for source in making.sources() if source[1] is None or len(list(making.sources())) == 1]
    if sources:
        yield f"  from {', '.join(sources)}"
    for name, sha256 in making.inputs.items():
        if name.startswith("file:"):
            yield f"  from {name} {sha256[:16]}"


def _document_lines(store: ArtifactStore, index: DocumentIndex, version: Version, making: Making) -> Iterator[str]:
    if version[0] in HOLDERS:
        held = _num_documents(store, index, version)
        if held is None:
            yield f"{HOLDERS[version[0]]} an unknown number of documents: it is gone or damaged"
        else:
            splits = [f"{number} {split}" for split, number in held.items() if split]
            yield f"{HOLDERS[version[0]]} {sum(held.values())} documents" + (
                f" ({', '.join(splits)})" if splits else ""
            )
    for role, ids in making.documents.items():
        yield f"{role} on {len(ids)} documents"
    for use in USES.get(version[0], ()):
        if use.role in making.documents:
            continue
        for source in making.sources():
            if source[0] == use.input:
                held = _num_documents(store, index, source)
                number = "an unknown number of" if held is None else str(held.get(use.split, 0))
                drawn = "some of " if use.is_drawn else ""
                yield f"{use.role} on {drawn}{number} documents ({use.input}, {use.split})"


def _num_documents(store: ArtifactStore, index: DocumentIndex, version: Version) -> dict[str, int] | None:
    """Split -> documents of a version; None where nobody knows any more."""
    counted: dict[str, int] = {}
    try:
        artifact = open_or_recall(store, *version)
        for name, sha256 in document_files(artifact):
            counted[split_of(name)] = counted.get(split_of(name), 0) + len(index.ids(artifact, name, sha256))
    except (ArtifactError, OSError):
        return None
    return counted


def document_lines(store: ArtifactStore, version: Version) -> Iterator[str]:
    """`HOW<tab>ARTIFACT<tab>URL` for every document that went into an artifact or what it was made from.

    Raises:
        LineageError: a version that holds some of them is no longer in the store, so that their addresses are not.
    """
    for ancestor in find_ancestry(store, version):
        name = name_of(ancestor.version)
        if ancestor.version == version and version[0] in HOLDERS:
            for _, url, _ in _urls(store, version):
                yield f"{HOLDERS[version[0]]}\t{name}\t{url}"
        making = ancestor.making
        if making is None:
            continue
        of_input = {use.input for use in USES.get(ancestor.version[0], ())}
        for source in (source for source in making.sources() if source[0] in of_input):
            for document_id, url, split in _urls(store, source):
                for use in USES[ancestor.version[0]]:
                    if (use.input, use.split) != (source[0], split):
                        continue
                    exact = making.documents.get(use.role)
                    if exact is None or document_id in exact:
                        drawn = "perhaps " if use.is_drawn and exact is None else ""
                        yield f"{drawn}{use.role}\t{name}\t{url}"


def _urls(store: ArtifactStore, version: Version) -> Iterator[tuple[str, str, str]]:
    """(document id or "", URL, split) of the documents that a version holds."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    try:
        artifact = store.open(version[0], version[2], version[1])
        artifact.refuse_damage()
    except ArtifactError as error:
        raise LineageError(
            f"The addresses of the documents are in {name_of(version)}, which is lost. {error}"
        ) from None
    for name, _ in document_files(artifact):
        with pq.ParquetFile(artifact.path / name) as file:
            columns = [column for column in ("document_id", "url", "kept") if column in file.schema_arrow.names]
            for batch in file.iter_batches(columns=columns):
                rows = batch.filter(pc.field("kept")) if "kept" in columns else batch
                for row in rows.to_pylist():
                    yield row.get("document_id", ""), row["url"], split_of(name)
