"""`cleaned_corpus`: what of all cleaned drops is kept, in which split and cluster, decided drop by drop.

Drops are applied in the order in which they came (those that came together by their names), so the corpus only grows
at its end: a new drop is compared with everything before it at a cost that depends on the new drop. Texts stay where
they are, in the drops' own artifacts; the corpus holds the decisions, a file per drop, and files of drops about which
nothing changed are shared with the version before.
"""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from smartdevdigest_ops.artifacts import Artifact, canonical_json, content_hash
from smartdevdigest_ops.corpus.clusters import Clusters
from smartdevdigest_ops.corpus.contamination import GoldData
from smartdevdigest_ops.corpus.deduplicate import Deduplicator, signed
from smartdevdigest_ops.corpus.documents import host_of, read_counts, signature_settings
from smartdevdigest_ops.corpus.index import SURVIVOR, AppliedDrop, CorpusIndex
from smartdevdigest_ops.corpus.normalise import fold
from smartdevdigest_ops.corpus.read import CorpusDrop, CorpusError, DocumentFiles, corpus_drops
from smartdevdigest_ops.corpus.shingles import band_hashes
from smartdevdigest_ops.corpus.split import Split
from smartdevdigest_ops.corpus.takedown import TakedownList
from smartdevdigest_ops.settings import CorpusSettings, DuplicateSettings

if TYPE_CHECKING:
    import pyarrow as pa

OVERLAPS_GOLD = "overlaps_gold"
_ADDED = ("folded_hash", "num_characters", "line", "language")
_COLUMNS = (*_ADDED, "canonical_url", "translation_keys")


@dataclass(frozen=True)
class HeldOut:
    """What the user keeps out of training, or out of the corpus."""

    pinned: Mapping[str, Split]
    """Canonical URL -> split: of the files of held-out documents, and of the gold data."""
    gold: GoldData
    takedowns: TakedownList

    def identity(self) -> str:
        """Changes with anything that changes a decision."""
        gold = content_hash(self.gold.windows.tobytes() + self.gold.owners.tobytes())
        parts = [sorted(self.pinned.items()), gold, list(self.gold.names)]
        patterns = [(pattern.pattern, line) for pattern, line in self.takedowns.patterns]
        return content_hash(canonical_json([*parts, sorted(self.takedowns.urls.items()), patterns]))


def drops_in_order(
    cleaned: Mapping[str, Artifact], previous: Artifact | None, index: CorpusIndex, settings: DuplicateSettings
) -> list[CorpusDrop]:
    """The drops as they are to be applied: those of the corpus before in their order, then new ones by name.

    Raises:
        CorpusError: a drop's signatures were made with other settings, so that it cannot be compared.
    """
    names = {}
    wanted = signature_settings(settings)
    for key, artifact in cleaned.items():
        counts = read_counts(artifact.path)
        names[key] = str(counts["name"])
        if counts["signatures"] != wanted:
            raise CorpusError(
                f"cleaned_documents[{key}] ({names[key]}) has signatures of {counts['signatures']}, and the settings "
                f"(corpus.duplicates) ask for {wanted}: it cannot be compared with the others, and the corpus stays as "
                "it was. Materialize cleaned_documents of this drop again."
            )
    # Without a version before (it was damaged and removed) the index still knows the order.
    before = [drop.key for drop in (corpus_drops(previous.path) if previous else index.drops)]
    keys = [key for key in before if key in names]
    keys += sorted(names.keys() - set(keys), key=lambda key: (names[key], key))
    return [CorpusDrop(key, names[key], cleaned[key].version) for key in keys]


def bring_up_to_date(
    index: CorpusIndex,
    drops: list[CorpusDrop],
    files: DocumentFiles,
    held_out: HeldOut,
    settings: CorpusSettings,
) -> int:
    """Apply to the index what it lacks of `drops`; returns how many drops were applied.

    A drop that was taken away, changed or put in between makes it begin anew: texts are not cleaned again for that.
    """
    applied = [(drop.key, drop.version) for drop in index.drops]
    if applied != [(drop.key, drop.version) for drop in drops[: len(applied)]]:
        index.reset()
    todo = drops[len(index.drops) :]
    clusters = Clusters(index, settings.split, held_out.pinned)
    deduplicator = Deduplicator(index, files, clusters, settings.duplicates)
    total = sum(sum(files.num_rows(drop.key)) for drop in todo)
    with tqdm(total=total, desc="compare", unit=" documents", mininterval=1) as bar:
        for drop in todo:
            with index.drop(drop.key, drop.version, drop.name, sum(files.num_rows(drop.key))) as placed:
                _place_drop(index, placed, files, deduplicator, held_out, settings, bar)
    return len(todo)


def write_decisions(
    drop: AppliedDrop, index: CorpusIndex, files: DocumentFiles, out: Path
) -> dict[str, dict[str, int]]:
    """One row per cleaned document of a drop, in the row groups of its documents: kept or why not.

    Returns the file in numbers: `kept` by "language split", `dropped` by "reason language", `source` by "host outcome".
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    out.parent.mkdir(parents=True, exist_ok=True)
    counts = _DecisionCounts()
    rows = (_decision(index, decided) for decided in index.decisions(drop.first_id, drop.last_id))
    with pq.ParquetWriter(out, decision_schema(), compression="zstd") as writer:
        for group in files.row_groups(drop.key, ["language", "content_sha256"]):
            decided = [next(rows) | document for document in group.to_pylist()]
            writer.write_table(pa.Table.from_pylist(decided, decision_schema()), row_group_size=max(1, len(decided)))
            for row in decided:
                counts.add(row)
    return counts.as_json()


def rewrite_decisions(
    drop: AppliedDrop, index: CorpusIndex, before: Path, changed: set[int], out: Path
) -> dict[str, dict[str, int]]:
    """What `write_decisions` would write, from the file that was written `before` the versions `changed`.

    A drop that comes to a large corpus changes a row or two in many old drops: the rest is copied.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    out.parent.mkdir(parents=True, exist_ok=True)
    counts = _DecisionCounts(json.loads(str(drop.counts)))
    start = drop.first_id
    with pq.ParquetFile(before) as old, pq.ParquetWriter(out, decision_schema(), compression="zstd") as writer:
        for number in range(old.num_row_groups):
            group = old.read_row_group(number)
            if here := changed.intersection(range(start, start + group.num_rows)):
                rows = group.to_pylist()
                for document in here:
                    row = rows[document - start]
                    counts.add(row, -1)
                    [decided] = index.decisions(document, document)
                    kept = {name: row[name] for name in ("language", "content_sha256")}
                    rows[document - start] = _decision(index, decided) | kept
                    counts.add(rows[document - start])
                group = pa.Table.from_pylist(rows, decision_schema())
            writer.write_table(group, row_group_size=max(1, group.num_rows))
            start += group.num_rows
    return counts.as_json()


class _DecisionCounts:
    """A drop's decisions in numbers."""

    def __init__(self, before: Mapping[str, Mapping[str, int]] | None = None) -> None:
        self._counts = {name: Counter((before or {}).get(name, {})) for name in ("kept", "dropped", "source")}

    def add(self, row: Mapping[str, Any], number: int = 1) -> None:
        """Count a row, or take it back."""
        if row["kept"]:
            self._counts["kept"][f"{row['language']} {row['split']}"] += number
        else:
            self._counts["dropped"][f"{row['reason']} {row['language']}"] += number
        self._counts["source"][f"{host_of(row['url'])} {'kept' if row['kept'] else row['reason']}"] += number

    def as_json(self) -> dict[str, dict[str, int]]:
        """Without the zeros."""
        return {name: {key: n for key, n in sorted(counter.items()) if n} for name, counter in self._counts.items()}


def decision_schema() -> "pa.Schema":
    """Columns of `decisions/<drop>.parquet`."""
    import pyarrow as pa

    return pa.schema(
        [
            ("line", pa.int64()),
            ("url", pa.string()),
            ("language", pa.string()),
            ("content_sha256", pa.string()),
            ("kept", pa.bool_()),
            ("split", pa.string()),
            ("cluster", pa.string()),
            ("reason", pa.string()),
            ("detail", pa.string()),
            ("match_url", pa.string()),
            ("similarity", pa.float64()),
        ]
    )


def _place_drop(
    index: CorpusIndex,
    placed: AppliedDrop,
    files: DocumentFiles,
    deduplicator: Deduplicator,
    held_out: HeldOut,
    settings: CorpusSettings,
    bar: Any,
) -> None:
    columns = [*_COLUMNS, "content"] if held_out.gold.names else _COLUMNS
    signatures = files.signatures(placed.key)
    document = placed.first_id
    for group in files.row_groups(placed.key, columns):
        start = document - placed.first_id
        bands = signed(band_hashes(signatures[start : start + group.num_rows], settings.duplicates))
        for row, own_bands in zip(group.to_pylist(), bands, strict=True):
            url = row["canonical_url"]
            index.add(document, url, **{name: row[name] for name in _ADDED})
            line = held_out.takedowns.line_of(url)
            deduplicator.place(document, own_bands, row["translation_keys"], taken_down=line is not None)
            if held_out.gold.names:
                found = held_out.gold.contained_in(fold(row["content"]), settings.split.max_gold_share)
                index.execute("UPDATE documents SET gold = ? WHERE id = ?", (found, document))
            document += 1
        bar.update(group.num_rows)


def _decision(index: CorpusIndex, decided: Mapping[str, Any]) -> dict[str, Any]:
    row = {"line": decided["line"], "url": decided["url"], "kept": False, "match_url": decided["match_url"]}
    row |= {"cluster": content_hash(decided["first_url"]), "similarity": decided["similarity"]}
    state, gold = decided["state"], decided["gold"]
    if state == SURVIVOR and (gold is None or decided["split"] == "test"):
        return row | {"kept": True, "split": decided["split"]}
    if state == SURVIVOR:
        return row | {"reason": OVERLAPS_GOLD, "detail": gold}
    return row | {"reason": state, "detail": _detail(index, decided)}


def _detail(index: CorpusIndex, decided: Mapping[str, Any]) -> str:
    if decided["match"] is None:
        return "on the takedown list"
    place = f"{index.drop_of(decided['match']).name} line {decided['match_line']}"
    if decided["state"] == "superseded":
        return f"newer version in {place}"
    return f"{decided['similarity']:.3f} similar to {decided['match_url']} in {place}"
