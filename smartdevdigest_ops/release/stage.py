"""The stage `release`: the gate between a candidate model and the one that is served.

The first candidate with valid outputs becomes the release; a later one does where `gate.compare` finds it no worse. A
refused candidate leaves the artifact byte for byte as it was, so that nothing downstream moves. So does one that
somebody set aside (`decisions`): it is not considered again before somebody promotes it.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from smartdevdigest_ops.artifacts import Artifact, ArtifactError, ArtifactStore, Making, file_sha256
from smartdevdigest_ops.evaluation.report.verdict import format_interval
from smartdevdigest_ops.evaluation.systems import CANDIDATE, UNQUANTIZED
from smartdevdigest_ops.release.gate import RELEASE, Comparison, Figures, candidate_figures, compare, is_loss
from smartdevdigest_ops.release.pointer import RELEASE_FILE, read_release
from smartdevdigest_ops.settings import ReleaseSettings
from smartdevdigest_ops.stage.declaration import Check, CheckResult, Stage, StageContext, StageReport
from smartdevdigest_ops.stage.demand import making_behind

_QUANTIZATION_CHECK = "bits_per_byte_increase_bounded"
_LEAKAGE_CHECK = "no_test_document_in_train"
# Three gold keywords in a row stand in many a text: told in the report, and no proof that the document was seen.
_TOLERATED_LEAKS = ("gold_keywords",)
SHOWN_KEYS = ("decision", "set_aside")
"""Entries of release.json that go into the notes of every making of it."""


def make(context: StageContext) -> StageReport:
    """Let the candidate through the gate, or leave the release as it is."""
    settings = context.settings.release
    model, evaluation = context.input("quantized_model"), context.input("evaluation_report")
    report = json.loads((evaluation.path / "report.json").read_text(encoding="utf-8"))
    current = context.store.current("release")
    served = read_release(current) if current else None
    set_aside = (served or {}).get("set_aside", {}).get(model.version)
    is_served = served is not None and served["quantized_model"] == model.version
    figures = candidate_figures(report, settings.fields)
    comparisons: list[Comparison] = []
    if current is not None and served is not None and not is_served:
        paired = _paired(report, making_behind(context.store, "evaluation_report", evaluation.version), current)
        comparisons = compare(
            figures,
            _restrict(served["metrics"], settings.fields),
            _restrict(paired, settings.fields),
            tolerance=settings.tolerance,
        )
    checks: tuple[CheckResult, ...] = (
        check_outputs_are_valid(report, settings.min_valid_json_rate),
        check_no_field_is_worse(comparisons, "this model is the release already" if is_served else None),
        check_quantization(
            making_behind(context.store, "quantized_model", model.version),
            {language: others.get(UNQUANTIZED) for language, others in report.get("comparisons", {}).items()},
            {
                language: by_system[CANDIDATE]["difficulty_shift"]
                for language, by_system in report.get("quantization", {}).items()
                if CANDIDATE in by_system
            },
            settings,
        ),
        check_nothing_leaked(report, making_behind(context.store, "evaluation_report", evaluation.version)),
    )
    passed = all(check.passed for check in checks)
    reasons = [check.message for check in sorted(checks, key=lambda check: check.passed)]
    stays = current is not None and (is_served or set_aside is not None or not passed)
    target = context.out / RELEASE_FILE
    if current is not None and stays:
        target.write_bytes((current.path / RELEASE_FILE).read_bytes())
    else:
        content = {
            "quantized_model": model.version,
            "evaluation_report": evaluation.version,
            "accepted": passed,
            "reasons": reasons,
            "metrics": figures,
            "previous": current.version if current else None,
            "decision": {"by": "gate", "from": served["quantized_model"] if served else None, "to": model.version},
            "set_aside": (served or {}).get("set_aside", {}),
        }
        target.write_text(format_release(content), encoding="utf-8")
    if set_aside is not None and not is_served:
        said = (
            f"candidate {model.version} was set aside on {set_aside['when']} ({set_aside['why']}) and is not "
            f"considered; `smartdevdigest release --promote {model.version} --why TEXT` releases it all the same"
        )
        # It was decided on by somebody: that is no failure of every run from now on.
        checks = tuple(CheckResult(check.name, True, f"not decided: {said}.", check.metadata) for check in checks)
    elif passed:
        said = f"candidate {model.version} {'is the release already' if is_served else 'accepted'}"
    else:
        remains = f"model {served['quantized_model']} stays the release" if served else "there is no release"
        said = f"candidate {model.version} refused, {remains}: {reasons[0]}"
    context.log(said)
    release = json.loads(target.read_text(encoding="utf-8"))
    return StageReport(
        metrics={
            "accepted": float(passed and set_aside is None),
            "num_compared_fields": float(sum(comparison.margin is not None for comparison in comparisons)),
            "valid_json_rate": report["valid_json_rate"][CANDIDATE]["mean"],
        }
        | {f"margin_{each.field}_{each.language}": each.margin for each in comparisons if each.margin is not None},
        checks=(*checks, check_artifacts_exist(context.store, release)),
        notes={"markdown": "\n".join(f"- {line}" for line in (said, *reasons))}
        | {key: release[key] for key in SHOWN_KEYS if release.get(key)},
    )


def format_release(content: Mapping[str, Any]) -> str:
    """Text of release.json: equal contents give equal bytes."""
    return json.dumps(content, ensure_ascii=False, indent=1, sort_keys=True) + "\n"


def _restrict(figures: Figures, fields: Sequence[str]) -> Figures:
    # Fields that the settings compare now; one that the release was not measured by has nothing to be compared with.
    return {
        language: {name: entry for name, entry in by_name.items() if name in fields}
        for language, by_name in figures.items()
    }


def _paired(report: Mapping[str, Any], evaluated: Making | None, current: Artifact) -> Figures:
    """Candidate minus release in this report; nothing where it names another release than today's."""
    named = evaluated.inputs.get(f"file:{RELEASE_FILE}") if evaluated else None
    if named is not None and named != file_sha256(current.path / RELEASE_FILE):
        return {}
    comparisons = report.get("comparisons", {})
    return {language: others[RELEASE] for language, others in comparisons.items() if RELEASE in others}


def check_outputs_are_valid(report: Mapping[str, Any], needed: float) -> CheckResult:
    """As many of the candidate's answers are digests of the contract as the settings ask for."""
    valid = report["valid_json_rate"][CANDIDATE]["mean"]
    return CheckResult(
        "outputs_are_valid",
        valid >= needed,
        f"valid JSON rate {valid:.3f}, at least {needed:.3f} needed.",
        {"valid_json_rate": valid, "needed": needed},
    )


def check_no_field_is_worse(comparisons: Sequence[Comparison], exempt: str | None) -> CheckResult:
    """No compared field of any language is worse than the release's by more than the tolerance."""
    failed = [comparison for comparison in comparisons if not comparison.passed]
    sentences = [str(comparison) for comparison in comparisons] or [exempt or "first release: none to compare with"]
    margins = {f"margin_{each.field}_{each.language}": each.margin for each in comparisons if each.margin is not None}
    return CheckResult(
        "no_field_is_worse",
        not failed,
        f"{'; '.join(sentences)}.",
        {"num_fields": len(comparisons), "num_worse": len(failed), **margins},
    )


def check_quantization(
    model: Making | None,
    paired: Mapping[str, Mapping[str, Any] | None],
    shifts: Mapping[str, Mapping[str, Any]],
    settings: ReleaseSettings,
) -> CheckResult:
    """Quantizing raised bits per byte by no more than its bound, cost no compared field too much, shifted no level.

    Per language, `paired` is candidate minus its unquantized self on the same documents, None where that did not run,
    and `shifts` the interval of the difficulty's mean shift.
    """
    name = "quantization_is_bounded"
    found = next((check for check in model.checks if check["name"] == _QUANTIZATION_CHECK), None) if model else None
    if found is None:
        return CheckResult(name, False, "there is no record of what quantizing cost; make quantized_model again.")
    losses = {
        f"{field} {language}": by_field[field]
        for language, by_field in paired.items()
        if by_field
        for field in settings.fields
        if field in by_field
    }
    max_loss, max_shift = settings.max_quantization_loss, settings.max_difficulty_shift
    lost = [which for which, interval in losses.items() if is_loss(which.split()[0], interval, max_loss)]
    said = "; ".join(f"{which} {format_interval(interval, signed=True)}" for which, interval in losses.items())
    digests = f"Candidate minus its unquantized self: {said}." if said else "No digests of the unquantized model."
    worse = f" By more than {max_loss:g} worse: {', '.join(lost)}." if lost else ""
    shifted = [language for language, of in shifts.items() if of["low"] > max_shift or of["high"] < -max_shift]
    moved = "; ".join(f"{language} {format_interval(interval, signed=True)}" for language, interval in shifts.items())
    digests += f" Difficulty shifted by {moved} levels." if moved else ""
    worse += f" By more than {max_shift:g}: {', '.join(shifted)}." if shifted else ""
    return CheckResult(
        name,
        found["passed"] and not lost and not shifted,
        f"{found['message']} {digests}{worse}",
        found["metadata"] | {"num_fields_lost": len(lost), "num_languages_shifted": len(shifted)},
    )


def check_nothing_leaked(report: Mapping[str, Any], evaluated: Making | None) -> CheckResult:
    """Nothing that the candidate was judged on was trained on, by the report's audit or the report's own check."""
    found = {kind: leaks if isinstance(leaks, int) else len(leaks) for kind, leaks in report.get("leakage", {}).items()}
    num_leaks = sum(number for kind, number in found.items() if kind not in _TOLERATED_LEAKS)
    check = next((each for each in evaluated.checks if each["name"] == _LEAKAGE_CHECK), None) if evaluated else None
    if not found and check is None:
        return CheckResult("nothing_leaked", False, "nobody looked whether test documents were trained on.")
    message = f"{num_leaks} leaks of test documents into training. {check['message'] if check else ''}".strip()
    passed = num_leaks == 0 and (check is None or check["passed"])
    return CheckResult("nothing_leaked", passed, message, {"num_leaks": num_leaks, **found})


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


GATE = ("outputs_are_valid", "no_field_is_worse", "quantization_is_bounded", "nothing_leaked")
"""Checks whose failure refuses a candidate, and leaves the release serving."""

STAGE = Stage(
    name="release",
    make=make,
    code_version="3",
    memoized=False,  # a decision holds against the release of its time: each is taken anew against today's
    inputs=("quantized_model", "evaluation_report"),
    settings=("release",),
    checks=(
        Check("outputs_are_valid", "Every answer of the candidate is a digest of the contract."),
        Check("no_field_is_worse", "No field of any language is worse than the release's by more than the tolerance."),
        Check("quantization_is_bounded", "Quantizing cost no more bits per byte or of a field than the bounds."),
        Check("nothing_leaked", "Nothing that the candidate was judged on was trained on."),
        Check("artifacts_exist", "The model and report that the release names are in the store, undamaged."),
    ),
)
