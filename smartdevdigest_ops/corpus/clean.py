"""`cleaned_corpus`: every drop's documents, each kept with its split or dropped with a reason."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from smartdevdigest_ops.artifacts import Artifact, content_hash
from smartdevdigest_ops.corpus.deduplicate import Resolution, Version, resolve_duplicates
from smartdevdigest_ops.corpus.language import KOREAN_HANGUL_SHARE
from smartdevdigest_ops.corpus.prepare import PreparedDrops
from smartdevdigest_ops.corpus.read import CorpusError
from smartdevdigest_ops.corpus.shingles import shingle_hashes
from smartdevdigest_ops.corpus.split import Split, hashed_split, strictest
from smartdevdigest_ops.crawl.stage import drop_name
from smartdevdigest_ops.crawl.tables import RowWriter
from smartdevdigest_ops.settings import CorpusSettings
from smartdevdigest_ops.stage import CheckResult

if TYPE_CHECKING:
    import pyarrow as pa

_COPIED = (
    *("url", "canonical_url", "source_type", "language", "declared_language", "title", "content"),
    *("author", "publish_date", "tags", "content_sha256", "num_characters"),
)


@dataclass
class CleanCounts:
    """What became of the records."""

    num_records: int = 0
    kept: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By language and split."""
    dropped: dict[str, Counter[str]] = field(default_factory=dict)
    """Drop -> reason -> records."""
    num_languages_corrected: int = 0
    """Kept documents whose source declares the other language."""
    disagreeing: list[str] = field(default_factory=list)
    """URLs of kept documents whose language is not that of their script; must stay empty."""

    def reasons(self) -> Counter[str]:
        """Dropped records by reason, over all drops."""
        return sum(self.dropped.values(), Counter())


def drop_order(drops: Mapping[str, Artifact]) -> dict[str, str]:
    """Drop key -> file name, oldest first: by file name (they begin with the date), then key."""
    names = {key: drop_name(artifact.path) for key, artifact in drops.items()}
    return dict(sorted(names.items(), key=lambda item: (item[1], item[0])))


def write_corpus(
    names: Mapping[str, str],
    prepared: PreparedDrops,
    out: Path,
    settings: CorpusSettings,
    pinned: Mapping[str, Split],
) -> CleanCounts:
    """Write `documents/<drop>.parquet` and `dropped/<drop>.parquet` for each drop of `names` (key -> file name).

    Raises:
        CorpusError: no document is left.
    """
    versions, resolution = _resolve(names, prepared, settings, frozenset(pinned))
    cluster_pins = _cluster_pins(versions, resolution, pinned)
    counts = CleanCounts()
    index = 0
    for key in names:
        dropped = counts.dropped.setdefault(key, Counter())
        with (
            RowWriter(out / "documents" / f"{key}.parquet", document_schema()) as kept_writer,
            RowWriter(out / "dropped" / f"{key}.parquet", dropped_schema()) as dropped_writer,
        ):
            for row in prepared.rows(key):
                counts.num_records += 1
                reason, detail = row["reason"], row["detail"]
                if reason is None:
                    loss = resolution.losses.get(index)
                    if loss is not None:
                        reason, detail = loss.reason, loss.detail(versions)
                    index += 1
                if reason is not None:
                    dropped[reason] += 1
                    lost = {"drop": key, "line": row["line"], "url": row["url"], "reason": reason, "detail": detail}
                    dropped_writer.write(lost)
                    continue
                cluster_url = resolution.clusters[row["canonical_url"]]
                split = cluster_pins.get(cluster_url) or hashed_split(cluster_url, settings)
                kept_writer.write(
                    {name: row[name] for name in _COPIED}
                    | {"document_id": content_hash(row["canonical_url"]), "drop": key, "split": split}
                    | {"cluster": content_hash(cluster_url)}
                )
                counts.kept[row["language"], split] += 1
                counts.num_languages_corrected += row["language"] != row["declared_language"]
                if (row["language"] == "ko") != (row["hangul_share"] >= KOREAN_HANGUL_SHARE):
                    counts.disagreeing.append(row["url"])
    if not counts.kept:
        reasons = "; ".join(f"{count} {reason}" for reason, count in counts.reasons().most_common(3))
        raise CorpusError(
            f"No document is left of {counts.num_records} records in {len(names)} drops ({reasons}), so there is "
            "nothing to train on. Loosen the bounds in the section corpus of the settings, or take in other drops."
        )
    return counts


def document_schema() -> "pa.Schema":
    """Columns of `documents/<drop>.parquet` and of the snapshot's splits."""
    import pyarrow as pa

    text = ("document_id", "url", "canonical_url", "drop", "source_type", "language", "declared_language")
    return pa.schema(
        [
            *((name, pa.string()) for name in (*text, "title", "content", "author", "publish_date")),
            ("tags", pa.list_(pa.string())),
            ("content_sha256", pa.string()),
            ("num_characters", pa.int64()),
            ("split", pa.string()),
            ("cluster", pa.string()),
        ]
    )


def dropped_schema() -> "pa.Schema":
    """Columns of `dropped/<drop>.parquet`."""
    import pyarrow as pa

    text = ("url", "reason", "detail")
    return pa.schema([("drop", pa.string()), ("line", pa.int64()), *((name, pa.string()) for name in text)])


def check_totals(num_records: int, num_kept: int, num_dropped: int) -> CheckResult:
    """Whether every record is a row of the documents or of the dropped ones."""
    message = f"{num_records} records in = {num_kept} documents kept + {num_dropped} dropped with a reason"
    return CheckResult("totals_reconcile", num_records == num_kept + num_dropped, message)


def check_urls(canonical_urls: Iterable[str]) -> CheckResult:
    """Whether each canonical URL has one document."""
    repeated = sorted(url for url, count in Counter(canonical_urls).items() if count > 1)
    message = f"{len(repeated)} canonical URLs have more than one document" + (f": {repeated[0]}" if repeated else "")
    return CheckResult("no_duplicate_urls", not repeated, message, {"repeated": repeated[:20]})


def check_script(counts: CleanCounts) -> CheckResult:
    """Whether every document's language is that of its script."""
    found = counts.disagreeing
    message = f"{len(found)} documents carry a language that their script denies" + (f": {found[0]}" if found else "")
    return CheckResult("language_agrees_with_script", not found, message, {"urls": found[:20]})


def reasons_table(counts: CleanCounts, names: Mapping[str, str]) -> str:
    """Markdown: a row per drop, a column per reason."""
    reasons = [reason for reason, _ in sorted(counts.reasons().items(), key=lambda item: (-item[1], item[0]))]
    if not reasons:
        return "No record was dropped."
    lines = ["| drop | " + " | ".join(reasons) + " |", "|---|" + "---:|" * len(reasons)]
    for key, name in names.items():
        lines.append(f"| {name} | " + " | ".join(str(counts.dropped[key][reason]) for reason in reasons) + " |")
    return "\n".join(lines)


def _resolve(
    names: Mapping[str, str], prepared: PreparedDrops, settings: CorpusSettings, pinned: frozenset[str]
) -> tuple[list[Version], Resolution]:
    """All versions that passed on their own, in drop order, and what became of them."""
    import numpy as np

    versions: list[Version] = []
    places: list[tuple[str, int]] = []
    bands: list[Any] = []
    columns = ["line", "canonical_url", "folded_hash", "num_characters", "bands", "reason"]
    for key, name in names.items():
        for position, row in enumerate(prepared.rows(key, columns)):
            if row["reason"] is None:
                place = f"{name} line {row['line']}"
                versions.append(Version(row["canonical_url"], row["folded_hash"], row["num_characters"], place))
                places.append((key, position))
                bands.append(np.array(row["bands"], dtype=np.uint64))

    def shingles_of(index: int) -> Any:
        return shingle_hashes(prepared.content(*places[index]), settings.shingle_characters)

    table = np.stack(bands) if bands else np.zeros((0, settings.minhash_bands), dtype=np.uint64)
    with tqdm(total=len(versions), desc="compare", unit=" documents", mininterval=1) as bar:
        similarity = settings.near_duplicate_similarity
        resolution = resolve_duplicates(
            versions, table, shingles_of, similarity=similarity, pinned=pinned, progress=bar.update
        )
    return versions, resolution


def _cluster_pins(versions: list[Version], resolution: Resolution, pinned: Mapping[str, Split]) -> dict[str, Split]:
    """First URL of a cluster -> its split, where a member or a text that stands behind one is held out by the user."""
    found: dict[str, set[Split]] = {}
    for index, version in enumerate(versions):
        if version.url in pinned:
            survivor = versions[resolution.survivor(index)]
            for url in (version.url, survivor.url):
                found.setdefault(resolution.clusters[url], set()).add(pinned[version.url])
    return {cluster: strictest(splits) for cluster, splits in found.items()}
