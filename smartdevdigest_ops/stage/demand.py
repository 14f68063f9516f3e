"""Whether a stage is worth starting now: what automation asks of the artifact store, twice a minute.

Every answer is read off the state of the store (fingerprints, counts of the current makings), never off events: a
restart, a lost tick or a run started by hand changes nothing in what is due. What is wanted is said together with what
decides it, so that a start that failed is not repeated before something that counts has changed.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from smartdevdigest_ops.artifacts import (
    ArtifactError,
    ArtifactStore,
    Making,
    canonical_json,
    content_hash,
    read_record,
)
from smartdevdigest_ops.settings import Settings, resolve_path
from smartdevdigest_ops.stage.planning import (
    Comparison,
    InputMissing,
    compare_with_current,
    outside_sha256,
    plan_stage,
)
from smartdevdigest_ops.stage.registry import get_stage

# Metric of cleaned_corpus: documents of the current snapshot that a takedown removed.
TAKEN_DOWN = "num_taken_down_in_snapshot"


@dataclass(frozen=True)
class Attempt:
    """What a start was asked for by."""

    current: str | None
    """Fingerprint of the making that was current then."""
    counted: str
    """Hash of everything that counts: code, settings and the versions of the inputs that start the stage."""
    amount: float
    """Documents or labels then, for a stage that waits for them to grow; 0 for others."""


@dataclass(frozen=True)
class Demand:
    """One making that is due."""

    reason: str
    attempt: Attempt
    share: float = 0
    """By how much the amount has to change to count."""

    def repeats(self, before: Attempt) -> bool:
        """Whether a start now would only do again what was asked for before, with nothing that counts changed."""
        now = self.attempt
        same = (now.current, now.counted) == (before.current, before.counted)
        return same and not (self.share and has_changed_by(self.share, before.amount, now.amount))


def has_changed_by(share: float, before: float, now: float) -> bool:
    """Whether a count moved by at least this share of what it was, up or down."""
    return now != before and abs(now - before) >= share * before


def demand_for_inputs(
    name: str, settings: Settings, counting: Collection[str] | None = None, partition: str | None = None
) -> Demand | None:
    """Due when never made, or when code, settings, files from outside or an input of `counting` (None: any) changed.

    Raises:
        InputMissing: an input has no version yet.
        StageError: a file from outside is not there.
    """
    comparison = compare_with_current(name, settings, partition)
    counted_inputs = get_stage(name).inputs if counting is None else tuple(counting)
    due = not comparison.is_fresh and (
        comparison.current is None or comparison.own or comparison.inputs.intersection(counted_inputs)
    )
    return _demand(comparison, str(comparison), settings, counted_inputs) if due else None


def demand_for_snapshot(settings: Settings) -> Demand | None:
    """Due when the corpus changed by `automation.min_corpus_growth`, or holds other documents because somebody asked.

    Asked: by a takedown of what the snapshot holds, by other settings of the corpus or by another held-out or gold
    file, which takes documents out of training. More drops alone count by how much they add.

    Raises:
        InputMissing: there is no corpus yet.
    """

    def chosen(corpus: Making) -> dict[str, object]:
        # A longer takedown list counts by what it takes out of the snapshot, which the corpus says itself.
        path = corpus.settings.get("data.takedown_path")
        takedown = f"file:{Path(path).name}" if path else None
        return {
            **{name: value for name, value in corpus.settings.items() if name != "data.takedown_path"},
            **{name: value for name, value in corpus.inputs.items() if name.startswith("file:") and name != takedown},
        }

    return _demand_for_growth(
        "corpus_snapshot",
        settings,
        _Gate("cleaned_corpus", "num_documents", settings.automation.min_corpus_growth, chosen, TAKEN_DOWN),
    )


def demand_for_m2(settings: Settings) -> Demand | None:
    """Due when M1 changed, or the labels by `automation.min_label_growth`, or the teacher that gives them.

    Raises:
        InputMissing: there is no M1, or no label yet.
    """
    share = settings.automation.min_label_growth

    def chosen(labels: Making) -> object:
        """Who labels, and how; not how many documents, nor what is measured of the labels."""
        how_many = ("max_documents", "refusal_round", "max_answers")
        labeling = labels.settings.get("labeling", {})
        teachers = {name: value for name, value in labeling.items() if name != "agreement" and isinstance(value, dict)}
        return labeling.get("teacher"), [
            (name, key, value)
            for name, teacher in sorted(teachers.items())
            for key, value in sorted(teacher.items())
            if key not in how_many
        ]

    gate = _Gate("labeled_pairs", "num_labeled", share, chosen)
    return _demand_for_growth("m2_adapter", settings, gate)


@dataclass(frozen=True)
class _Gate:
    """An input of which a new version counts only when there is enough of it."""

    asset: str
    metric: str
    share: float
    """By which the metric has to change, up or down: a corpus that lost a tenth is another corpus too."""
    chosen: Callable[[Making], object]
    """What somebody chose for a version; another choice counts at once."""
    urgent: str | None = None
    """A metric that counts at once when it is not zero."""

    def reason(self, before: Making | None, now: Making) -> str | None:
        if self.urgent and now.metrics.get(self.urgent, 0) > 0:
            return f"{self.urgent} of {self.asset} is {now.metrics[self.urgent]:.0f}"
        if before is None:
            return f"the {self.asset} that it was made from is no longer in the store"
        if self.chosen(before) != self.chosen(now):
            return f"{self.asset} was made with other settings or files"
        if has_changed_by(self.share, before.metrics[self.metric], now.metrics[self.metric]):
            return f"{self.metric} of {self.asset}: {before.metrics[self.metric]:.0f} -> {now.metrics[self.metric]:.0f}"
        return None


def _demand_for_growth(name: str, settings: Settings, gate: _Gate) -> Demand | None:
    comparison = compare_with_current(name, settings)
    if comparison.is_fresh:
        return None
    store = ArtifactStore(settings.store_dir)
    now = store.current_making(gate.asset)
    if now is None:
        raise InputMissing(f"{name} needs {gate.asset}, which has no version in {store.root} any more.")
    # A share of 0 asks for every change.
    counted = [asset for asset in get_stage(name).inputs if asset != gate.asset or not gate.share]
    reason: str | None = None
    if comparison.current is None or comparison.own or comparison.inputs.intersection(counted):
        reason = str(comparison)
    else:
        reason = gate.reason(making_behind(store, gate.asset, comparison.current.inputs[gate.asset]), now)
    if reason is None:
        return None
    extra = [now.metrics.get(gate.urgent, 0) if gate.urgent else 0, gate.chosen(now)]
    return _demand(comparison, reason, settings, counted, now.metrics[gate.metric], gate.share, extra)


def demands_for_digests(settings: Settings, drops: Collection[str]) -> dict[str, Demand]:
    """Drop -> demand, of those that are in the corpus and have no digests at all; none while there is no release.

    Planning a thousand drops one by one would take ten seconds, so what they share is looked at once.
    """
    store, stage = ArtifactStore(settings.store_dir), get_stage("digests")
    release, corpus = store.current_making("release"), store.current_making("cleaned_corpus")
    if release is None or corpus is None:
        return {}
    held_out = {outside_sha256(file)[:16] for file in _held_out_files(settings)}
    candidates = (set(drops) & drops_of(corpus)) - held_out
    due = [drop for drop in candidates if store.current_making("digests", drop) is None]
    counted = content_hash(canonical_json([stage.code_version, stage.tracked_settings(settings), release.version]))
    return {drop: Demand("the drop has no digests", Attempt(None, counted, 0)) for drop in due}


def drops_of(corpus: Making) -> set[str]:
    """Drops that a making of `cleaned_corpus` holds."""
    return {drop for versions in corpus.inputs.values() if isinstance(versions, dict) for drop in versions}


def _held_out_files(settings: Settings) -> list[Path]:
    # They are taken in as drops, to be held out; nobody waits for their digests.
    files = [resolve_path(path) for path in (settings.data.valid_path, settings.data.test_path) if path]
    return [file for file in files if file.is_file()]


def making_behind(store: ArtifactStore, asset: str, version: str) -> Making | None:
    """The last making of an unpartitioned asset that came to this version, if its record is still there."""
    found: list[Making] = []
    for record in (store.root / asset / "makings").glob("*.json"):
        text = record.read_text(encoding="utf-8")
        if version not in text:
            continue  # parsing the records of a thousand drops would cost a second
        try:
            making = read_record(record)
        except ArtifactError:
            continue  # damaged: `verify` names it
        if making.version == version:
            found.append(making)
    return max(found, key=lambda making: making.created, default=None)


def _demand(
    comparison: Comparison,
    reason: str,
    settings: Settings,
    counted_inputs: Collection[str],
    amount: float = 0,
    share: float = 0,
    extra: Sequence[object] = (),
) -> Demand:
    spec, stage = comparison.spec, get_stage(comparison.spec.stage)
    counted = {
        "code": stage.code_version,
        "settings": stage.tracked_settings(settings),
        "inputs": {asset: spec.inputs[asset] for asset in counted_inputs},
        "outside": spec.outside,
        "extra": list(extra),
    }
    current = comparison.current.fingerprint if comparison.current else None
    return Demand(reason, Attempt(current, content_hash(canonical_json(counted)), amount), share)


def is_refused(name: str, settings: Settings, partition: str | None = None) -> bool:
    """Whether the making that is asked for was made, and one of its blocking checks failed: again, it would too.

    Raises:
        StageError: the making cannot be planned.
    """
    spec = plan_stage(name, settings, partition)
    making = ArtifactStore(settings.store_dir).making(name, spec.fingerprint, partition)
    return making is not None and not making.passed_gates
