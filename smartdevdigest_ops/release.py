"""The stage `release`: the gate between a candidate model and the one that is served.

The first candidate with valid outputs becomes the release. A later one does unless, in some language, a compared
field's upper bound lies below the release's mean less a tolerance (non-inferiority; for errors: the lower bound above
the mean plus the tolerance). A refused candidate leaves the artifact byte for byte as it was, so that nothing
downstream moves. release.json:

    quantized_model      version of the model that is served
    evaluation_report    version of the report it was accepted with
    accepted             false only in what a refused first candidate left, which never becomes current
    reasons              what was compared, in sentences
    metrics              {language: {field: {"mean", "low", "high", "n"}}}: what the next candidate has to reach
    previous             version of the release before, or null

Figures are compared as they were measured then: when the test split has grown since, the two are of different
documents, and the reasons name both counts.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from smartdevdigest_ops.artifacts import Artifact, ArtifactError, ArtifactStore
from smartdevdigest_ops.errors import UserError
from smartdevdigest_ops.evaluation.metrics import LOWER_IS_BETTER
from smartdevdigest_ops.evaluation.systems import CANDIDATE
from smartdevdigest_ops.evaluation.verdict import format_interval
from smartdevdigest_ops.stage import Check, CheckResult, Stage, StageContext, StageReport

RELEASE_FILE = "release.json"

Figures = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""Language -> field -> {"mean", "low", "high", "n"}."""


class ReleaseError(UserError):
    """The gate cannot be decided: a report lacks what the settings compare."""


@dataclass(frozen=True)
class Verdict:
    """What the gate decided, and why."""

    passed: bool
    reasons: tuple[str, ...]
    """One sentence per comparison; those that fail first."""
    num_compared: int


def read_release(artifact: Artifact) -> dict[str, Any]:
    """Content of a release artifact.

    Raises:
        ArtifactError: release.json is missing or damaged.
    """
    path = artifact.path / RELEASE_FILE
    try:
        release: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ArtifactError(
            f"{path} could not be read ({error}), so it is unknown which model is served. Run `smartdevdigest verify`."
        ) from None
    return release


def released_model(store: ArtifactStore) -> Artifact:
    """The quantized model that is served.

    Raises:
        ReleaseError: nothing was released yet.
    """
    release = store.current("release")
    if release is None:
        raise ReleaseError(
            f"There is no release in {store.root} yet. `smartdevdigest run` makes one, or --model DIR names a model."
        )
    return store.open("quantized_model", str(read_release(release)["quantized_model"]))


def release_before(store: ArtifactStore, candidate: str) -> Artifact | None:
    """The newest release of another model than `candidate`; None where there is none.

    It is the same before and after the candidate itself is released.

    Raises:
        ArtifactError: a release's file is missing or damaged.
    """
    release = store.current("release")
    while release is not None:
        content = read_release(release)
        if content["quantized_model"] != candidate:
            return release
        release = store.open("release", content["previous"]) if content["previous"] else None
    return None


def compared_figures(report: Mapping[str, Any], fields: Sequence[str]) -> dict[str, dict[str, dict[str, Any]]]:
    """The candidate's figures of `fields` in a report, per language.

    Raises:
        ReleaseError: the report has no such field.
    """
    figures: dict[str, dict[str, dict[str, Any]]] = {}
    for language, by_system in report["languages"].items():
        measured = by_system[CANDIDATE]
        unknown = [name for name in fields if name not in measured]
        if unknown:
            raise ReleaseError(
                f"release.fields names {', '.join(unknown)}, which the evaluation report does not hold for {language}. "
                f"Nothing was released. Fields there: {', '.join(measured)}."
            )
        figures[language] = {name: dict(measured[name]) for name in fields}
    return figures


def decide(
    valid_json_rate: float, candidate: Figures, release: Figures | None, *, min_valid_json_rate: float, tolerance: float
) -> Verdict:
    """Whether a candidate may replace the release (None: there is none yet)."""
    failures: list[str] = []
    kept: list[str] = []
    valid = f"valid JSON rate {valid_json_rate:.3f}, at least {min_valid_json_rate:.3f} needed"
    (kept if valid_json_rate >= min_valid_json_rate else failures).append(valid)
    compared = [(language, name) for language, fields in (release or {}).items() for name in fields]
    num_compared = 0
    for language, name in compared:
        old, new = (release or {})[language][name], candidate.get(language, {}).get(name)
        if new is None:
            failures.append(f"{name} {language}: the release has {old['mean']}, the candidate was not measured in it")
        elif old["mean"] is None or new["mean"] is None:
            kept.append(f"{name} {language}: undefined, not compared")
        else:
            num_compared += 1
            passed, sentence = _compare(language, name, old, new, tolerance)
            (kept if passed else failures).append(sentence)
    if release is None:
        kept.append("first release: there is none to compare with")
    return Verdict(not failures, (*failures, *kept), num_compared)


def _compare(
    language: str, name: str, old: Mapping[str, Any], new: Mapping[str, Any], tolerance: float
) -> tuple[bool, str]:
    if name in LOWER_IS_BETTER:
        bound, passed, side = old["mean"] + tolerance, new["low"] <= old["mean"] + tolerance, "lower bound at most"
    else:
        bound, passed, side = old["mean"] - tolerance, new["high"] >= old["mean"] - tolerance, "upper bound at least"
    return passed, (
        f"{name} {language}: candidate {format_interval(new)} on {new['n']} documents, "
        f"release {old['mean']:.3f} on {old['n']}; {side} {bound:.3f} needed"
    )


def make(context: StageContext) -> StageReport:
    """Let the candidate through the gate, or leave the release as it is."""
    settings = context.settings.release
    model, evaluation = context.input("quantized_model"), context.input("evaluation_report")
    report = json.loads((evaluation.path / "report.json").read_text(encoding="utf-8"))
    current = context.store.current("release")
    served = read_release(current) if current else None
    is_served = served is not None and served["quantized_model"] == model.version
    figures = compared_figures(report, settings.fields)
    # A model is not compared with itself: a new report of it moves no figure that anybody is served by.
    reached = None if served is None or is_served else _restrict(served["metrics"], settings.fields)
    verdict = decide(
        report["valid_json_rate"][CANDIDATE]["mean"],
        figures,
        reached,
        min_valid_json_rate=settings.min_valid_json_rate,
        tolerance=settings.tolerance,
    )
    if is_served:
        verdict = Verdict(verdict.passed, ("this model is the release already", *verdict.reasons[:1]), 0)
    target = context.out / RELEASE_FILE
    if current is not None and (is_served or not verdict.passed):
        target.write_bytes((current.path / RELEASE_FILE).read_bytes())
    else:
        content = {
            "quantized_model": model.version,
            "evaluation_report": evaluation.version,
            "accepted": verdict.passed,
            "reasons": list(verdict.reasons),
            "metrics": figures,
            "previous": current.version if current else None,
        }
        target.write_text(json.dumps(content, ensure_ascii=False, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    context.log(f"candidate {model.version} {'accepted' if verdict.passed else 'refused'}: {verdict.reasons[0]}")
    return StageReport(
        metrics={"accepted": float(verdict.passed), "num_compared_fields": float(verdict.num_compared)},
        checks=(
            check_gate(model.version, verdict, served),
            check_artifacts_exist(context.store, json.loads(target.read_text(encoding="utf-8"))),
        ),
        notes={"markdown": "\n".join(f"- {reason}" for reason in verdict.reasons)},
    )


def _restrict(figures: Figures, fields: Sequence[str]) -> Figures:
    # Fields that the settings compare now; one that the release was not measured by has nothing to be compared with.
    return {
        language: {name: entry for name, entry in by_name.items() if name in fields}
        for language, by_name in figures.items()
    }


def check_gate(candidate: str, verdict: Verdict, served: Mapping[str, Any] | None) -> CheckResult:
    """The candidate became (or is) the release."""
    if verdict.passed:
        message = f"candidate {candidate} passed: {'; '.join(verdict.reasons)}."
    else:
        stays = f"model {served['quantized_model']} stays the release" if served else "there is no release"
        message = f"candidate {candidate} was refused, {stays}: {'; '.join(verdict.reasons)}."
    return CheckResult("gate_passes", verdict.passed, message, {"num_compared_fields": verdict.num_compared})


def check_artifacts_exist(store: ArtifactStore, release: Mapping[str, Any]) -> CheckResult:
    """The model and the report that the release names are in the store, every byte as published."""
    problems: list[str] = []
    for asset in ("quantized_model", "evaluation_report"):
        try:
            problems += store.open(asset, release[asset]).problems()
        except ArtifactError as error:
            problems.append(str(error))
    return CheckResult(
        "artifacts_exist",
        not problems,
        "; ".join(problems[:3])
        or f"quantized_model {release['quantized_model']} and evaluation_report {release['evaluation_report']} are "
        "in the store, every file as published.",
    )


STAGE = Stage(
    name="release",
    make=make,
    code_version="1",
    memoized=False,  # a decision holds against the release of its time: each is taken anew against today's
    inputs=("quantized_model", "evaluation_report"),
    settings=("release",),
    checks=(
        Check("gate_passes", "The candidate's outputs are valid and no compared field is worse than the release's."),
        Check("artifacts_exist", "The model and report that the release names are in the store, undamaged."),
    ),
)
