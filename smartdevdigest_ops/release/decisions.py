"""What somebody decides about the release, past the gate: a promotion, or a rollback.

A decision is a release artifact like the gate's, with its reason and time, made current by its own record. That record
stands for the making that the inputs and settings of the moment ask for: a later run finds the release up to date,
until there is a new candidate. The model that was served and the candidate of the moment are set aside.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Literal

from smartdevdigest_ops.artifacts import Artifact, ArtifactError, ArtifactStore, Making, content_hash
from smartdevdigest_ops.errors import UserError
from smartdevdigest_ops.release.gate import candidate_figures
from smartdevdigest_ops.release.pointer import RELEASE_FILE, ReleaseError, read_release, release_chain
from smartdevdigest_ops.release.stage import SHOWN_KEYS, STAGE, check_artifacts_exist, format_release
from smartdevdigest_ops.settings import Settings
from smartdevdigest_ops.stage.planning import plan_stage


def promote(settings: Settings, version: str, why: str) -> Making:
    """Serve this version of quantized_model, whatever the gate says of it.

    Raises:
        ReleaseError: it is served already, was never evaluated, or no reason is given.
        ArtifactError: the model or its report is not in the store, or damaged.
    """
    store = ArtifactStore(settings.store_dir)
    with store.lock("release", None):
        return _decide(store, settings, "promotion", version, why)


def roll_back(settings: Settings, version: str | None, why: str) -> Making:
    """Serve the model that was released before the current one, or that of an earlier release or model version.

    Raises:
        ReleaseError: there is no such earlier release, or no reason is given.
        ArtifactError: its model or report is not in the store any more, or damaged.
    """
    store = ArtifactStore(settings.store_dir)
    with store.lock("release", None):
        chain = list(release_chain(store))
        served = chain[0][1]["quantized_model"] if chain else None
        earlier = [(release, content) for release, content in chain if content["quantized_model"] != served]
        named = [
            content for release, content in earlier if version in (None, release.version, content["quantized_model"])
        ]
        if not named:
            known = ", ".join(dict.fromkeys(content["quantized_model"] for _, content in earlier)) or "none"
            raise ReleaseError(
                f"There is no earlier release{f' {version}' if version else ''} to go back to, so nothing was changed. "
                f"Models released before: {known}."
            )
        return _decide(store, settings, "rollback", named[0]["quantized_model"], why)


def _decide(
    store: ArtifactStore, settings: Settings, kind: Literal["promotion", "rollback"], model: str, why: str
) -> Making:
    if not why.strip():
        raise ReleaseError("A decision about the release needs its reason: --why TEXT. Nothing was changed.")
    current = store.current("release")
    served = read_release(current) if current else {}
    if served.get("quantized_model") == model:
        raise ReleaseError(f"Model {model} is the release already; nothing was changed.")
    store.open("quantized_model", model).refuse_damage()
    report = _report_of(store, model)
    when = datetime.now(UTC).isoformat(timespec="seconds")
    candidate = store.current_making("quantized_model")
    against = {each for each in (served.get("quantized_model"), candidate and candidate.version) if each} - {model}
    set_aside = served.get("set_aside", {}) | {each: {"when": when, "why": why} for each in sorted(against)}
    set_aside.pop(model, None)
    judged = json.loads((report.path / "report.json").read_text(encoding="utf-8"))
    content = {
        "quantized_model": model,
        "evaluation_report": report.version,
        "accepted": True,
        "reasons": [f"{kind}: {why}"],
        "metrics": candidate_figures(judged, settings.release.fields),
        "previous": current.version if current else None,
        "decision": {"by": kind, "why": why, "when": when, "from": served.get("quantized_model"), "to": model},
        "set_aside": set_aside,
    }
    making = _publish(store, settings, content, when)
    store.record(making)
    return making


def _publish(store: ArtifactStore, settings: Settings, content: Mapping[str, Any], when: str) -> Making:
    with store.staging("release") as out:
        (out / RELEASE_FILE).write_text(format_release(content), encoding="utf-8")
        artifact = store.publish(out, "release")
    try:
        asked_for = plan_stage("release", settings).fingerprint
    except UserError:
        asked_for = ""  # there is no candidate at the moment
    check = asdict(check_artifacts_exist(store, content)) | {"blocking": True}
    return Making(
        asset="release",
        partition=None,
        version=artifact.version,
        fingerprint=content_hash(f"decision {artifact.version}"),
        inputs={asset: content[asset] for asset in STAGE.inputs},
        settings=STAGE.tracked_settings(settings),
        code_version=STAGE.code_version,
        environment={},
        resources={"device": "cpu", "wall_seconds": 0.0, "peak_rss_bytes": 0, "peak_gpu_bytes": None},
        metrics={"accepted": 1.0},
        checks=[check],
        notes={"markdown": f"- {content['reasons'][0]}"} | {key: content[key] for key in SHOWN_KEYS if content[key]},
        created=when,
        in_place_of=asked_for,
    )


def _report_of(store: ArtifactStore, model: str) -> Artifact:
    """The last evaluation report of a model."""
    reports = [making for making in store.makings("evaluation_report") if making.inputs.get("quantized_model") == model]
    for making in sorted(reports, key=lambda making: making.created, reverse=True):
        try:
            report = store.open("evaluation_report", making.version)
            report.refuse_damage()
        except ArtifactError:
            continue
        return report
    raise ReleaseError(
        f"There is no undamaged evaluation report of model {model} in {store.root}, so nobody knows what would be "
        "served. Nothing was changed."
    )
