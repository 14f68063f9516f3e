"""Stages `cleaned_documents` (a drop cleaned on its own), `cleaned_corpus` (all drops together), `corpus_snapshot`."""

import json
import shutil
import sqlite3
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from smartdevdigest_ops.artifacts import Artifact, ArtifactStore, canonical_json, content_hash, file_sha256
from smartdevdigest_ops.corpus.assemble import (
    HeldOut,
    bring_up_to_date,
    drops_in_order,
    rewrite_decisions,
    write_decisions,
)
from smartdevdigest_ops.corpus.card import CorpusCard, card_markdown, dropped_picture
from smartdevdigest_ops.corpus.checks import check_disjoint, check_filled, check_script, check_totals, check_urls
from smartdevdigest_ops.corpus.contamination import read_gold
from smartdevdigest_ops.corpus.documents import clean_drop, read_counts, write_counts
from smartdevdigest_ops.corpus.index import CorpusIndex, is_damage
from smartdevdigest_ops.corpus.read import DROPS_FILE, CorpusError, DocumentFiles, decisions_file
from smartdevdigest_ops.corpus.snapshot import write_snapshot
from smartdevdigest_ops.corpus.split import Split, read_pinned
from smartdevdigest_ops.corpus.takedown import read_takedowns
from smartdevdigest_ops.drops.stage import drop_name
from smartdevdigest_ops.drops.tables import num_rows
from smartdevdigest_ops.lineage.impact import find_impact, impact_markdown, num_still_held
from smartdevdigest_ops.settings import Settings, resolve_path
from smartdevdigest_ops.stage import Check, Stage, StageContext, StageReport

MOVES_FILE = "moves.jsonl"
"""Documents that had to change their split, with the drop that united their clusters."""


def _clean(context: StageContext) -> StageReport:
    raw = context.input("raw_crawl")
    name = drop_name(raw.path)
    counts = clean_drop(raw.path, context.out, context.scratch, name, context.settings.corpus)
    write_counts(counts, context.out, name, context.settings.corpus)
    num_records = num_rows(raw.path / "records.parquet")
    num_kept, num_dropped = counts.kept.total(), counts.dropped.total()
    reasons: Counter[str] = Counter()
    for (reason, _), count in counts.dropped.items():
        reasons[reason] += count
    metrics: dict[str, float] = {
        "num_records": counts.num_records,
        "num_documents": num_kept,
        "num_dropped": num_dropped,
        "num_languages_corrected": counts.num_languages_corrected,
        "num_masked_documents": counts.num_masked_documents,
        "num_boilerplate_lines": counts.num_boilerplate_lines,
        "num_unchecked_pages": counts.num_unchecked_pages,
        "num_characters": counts.num_characters,
    }
    metrics |= {f"num_documents_{language}": count for language, count in sorted(counts.kept.items())}
    metrics |= {f"num_dropped_{reason}": count for reason, count in sorted(reasons.items())}
    metrics |= {f"num_masked_{kind}": count for kind, count in sorted(counts.masked.items())}
    context.log(f"{name}: {num_kept} of {counts.num_records} records kept; {_said(reasons)}")
    checks = (check_totals(num_records, num_kept, num_dropped), check_script(counts.disagreeing))
    return StageReport(metrics, checks, {"drop": name})


def _assemble(context: StageContext) -> StageReport:
    settings = context.settings.corpus
    held_out = _held_out(context.settings)
    deciding = [settings.duplicates.model_dump(mode="json"), settings.split.model_dump(mode="json")]
    identity = content_hash(canonical_json([*deciding, held_out.identity()]))
    index = CorpusIndex(context.store.root / ".cache" / "corpus_index.sqlite", identity, settings.memory_mib)
    try:
        return _decide(context, index, held_out)
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise
        context.log(f"{index.path} is damaged ({error}) and is built again")
        index.reset()
        context.reused.clear()
        shutil.rmtree(context.out / "decisions", ignore_errors=True)
        return _decide(context, index, held_out)
    finally:
        index.close()


def _decide(context: StageContext, index: CorpusIndex, held_out: HeldOut) -> StageReport:
    settings = context.settings.corpus
    cleaned = context.partitions("cleaned_documents")
    previous = context.store.current("cleaned_corpus")
    drops = drops_in_order(cleaned, previous, index, settings.duplicates)
    files = DocumentFiles({key: each.path for key, each in cleaned.items()}, settings.duplicates.permutations)
    known = {(drop.key, drop.version) for drop in index.drops}
    new = [drop for drop in drops if (drop.key, drop.version) not in known]
    for drop in new:
        cleaned[drop.key].refuse_damage()
    num_applied = bring_up_to_date(index, drops, files, held_out, settings)
    context.log(f"{len(drops)} drops, {len(new)} of them new, {num_applied} compared with those before them")
    _write_decisions(context, index, files, previous)
    entries = [{"key": drop.key, "name": drop.name, "version": drop.version} for drop in drops]
    (context.out / DROPS_FILE).write_text(json.dumps(entries, ensure_ascii=False, indent=1), encoding="utf-8")
    moves = index.moves()
    lines = "".join(json.dumps(move, ensure_ascii=False) + "\n" for move in moves)
    (context.out / MOVES_FILE).write_text(lines, encoding="utf-8")
    card = CorpusCard.of(
        [(drop.name, read_counts(cleaned[drop.key].path)) for drop in drops],
        [json.loads(str(drop.counts)) for drop in index.drops],
    )
    if not card.num_documents:
        raise CorpusError(
            f"No document is left of {card.num_records} records in {len(drops)} drops ({_said(card.reasons)}), so "
            "there is nothing to train on. Loosen the bounds in the section corpus of the settings, or take in other "
            "drops."
        )
    # Pages on the list that are in no drop any more may still be in a snapshot.
    found = set(index.urls_taken_down())
    taken_down = sorted(found | held_out.takedowns.urls.keys())
    impacts = find_impact(context.store, [content_hash(url) for url in taken_down]) if taken_down else []
    metrics = card.metrics() | {
        "num_drops": len(drops),
        "num_drops_compared": num_applied,
        "num_moved_documents": len(moves),
        "num_taken_down": len(found),
        **num_still_held(impacts),
    }
    if held_out.pinned:
        num_pinned = index.num_survivors_of(held_out.pinned)
        metrics |= {"num_pinned_urls": len(held_out.pinned), "num_pinned_documents": num_pinned}
    context.log(f"{card.num_documents} documents kept of {card.num_records} records; {_said(card.reasons)}")
    notes: dict[str, Any] = {"markdown": card_markdown(card, dropped_picture(card))}
    if taken_down:
        context.log(
            f"{len(found)} pages of the drops are on the takedown list, and {len(taken_down) - len(found)} of its "
            f"addresses in no drop; {sum(each.has_learned for each in impacts)} artifacts learned from them: "
            "`taken_down` in the metadata names all"
        )
        notes["taken_down"] = {
            "urls": taken_down,
            "copies_elsewhere": index.copies_of_taken_down(),
            "went_into": [str(each) for each in impacts],
        }
        notes["takedown_impact"] = impact_markdown(len(found), impacts)
    return StageReport(metrics, (check_totals(card.num_records, card.num_documents, card.num_dropped),), notes)


def _write_decisions(
    context: StageContext, index: CorpusIndex, files: DocumentFiles, previous: Artifact | None
) -> None:
    for drop in list(index.drops):
        name = decisions_file(drop.key)
        out = context.out / name
        written, changed = index.changed_since_written(drop) or (drop.decisions, set())
        is_known = previous is not None and written is not None and _holds(previous, name, written)
        if previous and is_known and not changed:
            context.reuse(previous, name)
            continue
        if previous and is_known:
            counts = rewrite_decisions(drop, index, previous.path / name, changed, out)
        else:
            counts = write_decisions(drop, index, files, out)
        index.set_decisions(drop, file_sha256(out), canonical_json(counts))
    index.refresh()


def _holds(artifact: Artifact, name: str, sha256: str) -> bool:
    """Whether this very file is in the artifact, undamaged: damage must not be handed on."""
    file = artifact.path / name
    known = artifact.files.get(name)
    return known is not None and known["sha256"] == sha256 and file.is_file() and file_sha256(file) == sha256


def _freeze(context: StageContext) -> StageReport:
    frozen = write_snapshot(context.store, context.input("cleaned_corpus"), context.out)
    metrics: dict[str, float] = {}
    lines = ["| split | ko | en | characters |", "|---|---:|---:|---:|"]
    for split, counts in frozen.items():
        ko, en = counts.by_language["ko"], counts.by_language["en"]
        metrics |= {f"num_documents_{split}_ko": ko, f"num_documents_{split}_en": en}
        metrics |= {f"num_documents_{split}": ko + en, f"num_characters_{split}": counts.num_characters}
        lines.append(f"| {split} | {ko} | {en} | {counts.num_characters:,} |")
    sizes = {split: counts.by_language.total() for split, counts in frozen.items()}
    metrics["num_documents"] = sum(sizes.values())
    identities = {split: counts.identities for split, counts in frozen.items()}
    checks = (check_disjoint(identities), check_urls(identities), check_filled(sizes))
    return StageReport(metrics, checks, {"markdown": "\n".join(lines)})


def _held_out(settings: Settings) -> HeldOut:
    gold = read_gold(_paths(settings.data.gold_paths))
    valid, test = settings.data.valid_path, settings.data.test_path
    pinned: dict[str, Split] = dict.fromkeys(gold.urls, "test")
    pinned |= read_pinned(resolve_path(valid) if valid else None, resolve_path(test) if test else None)
    takedowns = settings.data.takedown_path
    return HeldOut(pinned, gold, read_takedowns(resolve_path(takedowns) if takedowns else None))


def _outside_files(settings: Settings, store: ArtifactStore, partition: str | None) -> list[Path]:
    data = settings.data
    return _paths(path for path in (data.valid_path, data.test_path, *data.gold_paths, data.takedown_path) if path)


def _paths(names: Iterable[str]) -> list[Path]:
    return [resolve_path(name) for name in names]


def _said(reasons: Counter[str]) -> str:
    return "dropped: " + (", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items())) or "none")


STAGES = (
    Stage(
        name="cleaned_documents",
        make=_clean,
        code_version="1",
        inputs=("raw_crawl",),
        settings=(
            *("corpus.quality", "corpus.boilerplate", "corpus.privacy"),
            *("corpus.duplicates.shingle_characters", "corpus.duplicates.permutations"),
        ),
        partitioned=True,
        checks=(
            Check("totals_reconcile", "Every record is kept or dropped with a reason."),
            Check("language_agrees_with_script", "Korean documents are written in Hangul, English ones are not."),
        ),
    ),
    Stage(
        name="cleaned_corpus",
        make=_assemble,
        code_version="2",
        inputs=("cleaned_documents",),
        settings=(
            *("corpus.duplicates", "corpus.split"),
            *("data.valid_path", "data.test_path", "data.gold_paths", "data.takedown_path"),
        ),
        outside_files=_outside_files,
        checks=(Check("totals_reconcile", "Every record of every drop is kept or dropped with a reason."),),
        reads_inputs_whole=False,
    ),
    Stage(
        name="corpus_snapshot",
        make=_freeze,
        code_version="2",
        inputs=("cleaned_corpus",),
        checks=(
            Check("splits_are_disjoint", "No URL, text or cluster is in two splits."),
            Check("no_duplicate_urls", "No canonical URL has two documents."),
            Check("every_split_has_documents", "Train, valid and test each hold documents."),
        ),
    ),
)
