"""Which artifacts documents went into, and how: what whoever answers a takedown has to know.

Answered from the records of makings, which stay when a version is removed, and from the document index: nothing is
scanned. A version made from one that learned from a document has inherited it, whatever else it read.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from smartdevdigest_ops.artifacts import Artifact, ArtifactError, ArtifactStore, Making
from smartdevdigest_ops.lineage.document_index import DocumentIndex, as_ids, document_files, split_of
from smartdevdigest_ops.lineage.uses import HOLDERS, LEARNED, USES, Use
from smartdevdigest_ops.stage.registry import STAGE_MODULES

if TYPE_CHECKING:
    import numpy as np

Version = tuple[str, str | None, str]
"""Asset, partition, version."""


@dataclass
class Impact:
    """A version that documents which were asked for went into."""

    asset: str
    partition: str | None
    version: str
    is_current: bool = False
    split_of: dict[str, int] = field(default_factory=dict)
    """Of a version that holds documents: split ("" where there is none) -> how many of those asked for."""
    uses: dict[str, int] = field(default_factory=dict)
    """Use -> how many of them, certainly or, for `perhaps USE`, at most."""
    inherited_from: list[str] = field(default_factory=list)
    """Inputs that learned from them."""
    is_unknown: bool = False
    """It holds documents and is gone or damaged: it may have held them."""

    @property
    def has_learned(self) -> bool:
        """Whether something of the documents may be in it: it was trained or calibrated on them, or inherited it."""
        return bool(self.inherited_from or any(use.removeprefix("perhaps ") in LEARNED for use in self.uses))

    @property
    def num_held(self) -> int | None:
        """How many of them it holds itself; None where that is unknown."""
        return None if self.is_unknown else sum(self.split_of.values())

    def __str__(self) -> str:
        parts = []
        if self.is_unknown:
            parts.append("is gone or damaged and may have held them")
        for split, number in self.split_of.items():
            parts.append(f"{HOLDERS[self.asset]} ({number}{f', split {split}' if split else ''})")
        parts += [f"{use} on {number}" for use, number in self.uses.items()]
        if self.inherited_from:
            parts.append(f"made from what learned from them: {', '.join(self.inherited_from)}")
        return f"{name_of((self.asset, self.partition, self.version))}{' (current)' if self.is_current else ''}: " + (
            "; ".join(parts)
        )


def name_of(version: Version) -> str:
    """`asset[partition]@version`, as every command takes it."""
    asset, partition, number = version
    return f"{asset}[{partition}]@{number}" if partition else f"{asset}@{number}"


def find_impact(store: ArtifactStore, document_ids: Iterable[str]) -> list[Impact]:
    """Every version ever made that one of the documents went into, upstream first."""
    import numpy as np

    search = _Search(store, np.unique(as_ids(sorted(set(document_ids)))))
    for asset in STAGE_MODULES:  # each after its inputs
        for making in store.makings(asset):
            search.visit(making)
    found = [impact for impact in search.impacts.values() if _counts(impact)]
    current: dict[tuple[str, str | None], Making | None] = {}
    for impact in found:
        key = (impact.asset, impact.partition)
        if key not in current:
            current[key] = store.current_making(*key)
        pointed = current[key]
        impact.is_current = pointed is not None and pointed.version == impact.version
    return found


def _counts(impact: Impact) -> bool:
    return bool(impact.split_of or impact.uses or impact.inherited_from or impact.is_unknown)


def num_still_held(impacts: Iterable[Impact]) -> dict[str, float]:
    """Metrics of a takedown: documents that the current snapshot holds, current artifacts that learned from some."""
    current = [impact for impact in impacts if impact.is_current]
    return {
        "num_taken_down_in_snapshot": sum(each.num_held or 0 for each in current if each.asset == "corpus_snapshot"),
        "num_current_that_learned_from_taken_down": sum(each.has_learned for each in current),
    }


def impact_markdown(num_marked: int, impacts: Iterable[Impact]) -> str:
    """What a takedown has still to reach: the current artifacts that hold the documents or learned from them."""
    lines = [f"{num_marked} documents of the drops are marked for removal."]
    current = [impact for impact in impacts if impact.is_current]
    if current:
        lines += ["", "| current artifact | what it did with them |", "|---|---|"]
    for impact in current:
        name, _, what = str(impact).partition(": ")
        lines.append(f"| {name.removesuffix(' (current)')} | {what} |")
    return "\n".join(lines)


class _Search:
    """One question to the store: the documents, and what was found of them so far."""

    def __init__(self, store: ArtifactStore, wanted: "np.ndarray") -> None:
        self.impacts: dict[Version, Impact] = {}
        self._store = store
        self._index = DocumentIndex(store)
        self._wanted = wanted
        self._held: dict[Version, Mapping[str, int] | None] = {}
        self._in_file: dict[str, int] = {}

    def visit(self, making: Making) -> None:
        """Take in one making; those of its inputs were before."""
        version = (making.asset, making.partition, making.version)
        impact = self.impacts.setdefault(version, Impact(*version))
        if making.asset in HOLDERS:
            held = self._holding(version)
            impact.is_unknown = held is None
            impact.split_of = dict(held or {})
        sources = list(making.sources())
        reported = {use: self._num_wanted(ids) for use, ids in making.documents.items()}
        impact.uses |= {use: number for use, number in reported.items() if number}
        for use in USES.get(making.asset, ()):
            if use.role in making.documents:
                continue
            for source in sources:
                if source[0] == use.input:
                    self._note(impact, use, source)
        for source in sources:
            origin = self.impacts.get(source)
            if origin is not None and origin.has_learned and name_of(source) not in impact.inherited_from:
                impact.inherited_from.append(name_of(source))

    def _note(self, impact: Impact, use: Use, source: Version) -> None:
        held = self._holding(source)
        number = len(self._wanted) if held is None else held.get(use.split, 0)
        if number:
            name = f"perhaps {use.role}" if use.is_drawn or held is None else use.role
            impact.uses[name] = max(impact.uses.get(name, 0), number)

    def _holding(self, version: Version) -> Mapping[str, int] | None:
        """Split -> how many of the wanted documents a version holds; None where nobody knows any more."""
        if version not in self._held:
            try:
                self._held[version] = self._count(open_or_recall(self._store, *version))
            except (ArtifactError, OSError):
                self._held[version] = None
        return self._held[version]

    def _count(self, artifact: Artifact) -> dict[str, int]:
        counted: dict[str, int] = {}
        for name, sha256 in document_files(artifact):
            if sha256 not in self._in_file:  # versions of a corpus share the decisions of most drops
                self._in_file[sha256] = self._num_in(self._index.ids(artifact, name, sha256))
            if self._in_file[sha256]:
                split = split_of(name)
                counted[split] = counted.get(split, 0) + self._in_file[sha256]
        return counted

    def _num_in(self, ids: "np.ndarray") -> int:
        import numpy as np

        if not len(ids):
            return 0
        places = np.searchsorted(ids, self._wanted).clip(max=len(ids) - 1)
        return int((ids[places] == self._wanted).sum())

    def _num_wanted(self, document_ids: Collection[str]) -> int:
        import numpy as np

        return int(np.isin(as_ids(sorted(document_ids)), self._wanted).sum())


def open_or_recall(store: ArtifactStore, asset: str, partition: str | None, version: str) -> Artifact:
    """A version of an asset; one that was pruned, by what is remembered of it: its files are gone.

    Raises:
        ArtifactError: it is neither in the store nor was it pruned.
    """
    try:
        return store.open(asset, version, partition)
    except ArtifactError:
        pruned = store.pruned(asset, version, partition)
        if pruned is None:
            raise
        return Artifact(asset, partition, version, Path(pruned["path"]), pruned["files"])
