"""Stories for the automation conditions: drops land, ticks pass, runs succeed and fail.

What decides is real: the sensor is ticked with the cursor of its last tick, as the daemon does it; what it requests
are runs of a Dagster instance; stages are planned, run and published into an artifact store; drops, settings,
fingerprints and checks are those of the project. What a stage writes is small: a line per document. How a run is
executed decides nothing, so all stories but the first spare Dagster's executor (0.02 s a run instead of 0.2) and
report the events that the conditions look at.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache, reduce
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.events import StepMaterializationData
from dagster._core.execution.api import create_execution_plan, execute_run
from dagster._core.execution.plan.objects import StepFailureData
from dagster._core.snap import ExecutionPlanSnapshot, snapshot_from_execution_plan

from smartdevdigest_assets.automation import keep_up_to_date
from smartdevdigest_assets.definitions import defs
from smartdevdigest_assets.partitions import DROPS
from smartdevdigest_ops.artifacts import Artifact, ArtifactStore
from smartdevdigest_ops.drops.files import drop_path, register_drop
from smartdevdigest_ops.release import read_release
from smartdevdigest_ops.settings import load_settings
from smartdevdigest_ops.stage import (
    STAGE_MODULES,
    CheckResult,
    Stage,
    StageContext,
    StageReport,
    get_stage,
    plan_stage,
    registry,
    run_stage,
)

# The project's assets, executed in this process.
DEFINITIONS = dg.Definitions(
    assets=defs.assets, sensors=[keep_up_to_date], resources=defs.resources, executor=dg.in_process_executor
)
REPOSITORY = DEFINITIONS.get_repository_def()
ORDER = list(STAGE_MODULES)
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}

# What follows a snapshot, one after the other.
TRAINING = [["domain_tokenizer"], ["m1_checkpoint"]]
DELIVERY = [["quantized_model"], ["evaluation_report"], ["release"]]


@dataclass
class Beginning:
    """A store in which one drop has gone all the way."""

    root: Path
    cursor: str
    names: dict[str, str]
    """Partition -> name of the drop."""
    started: list[list[str]]
    """What each tick had asked for."""


@dataclass
class World:
    """What the stages find outside the store, and what becomes of them."""

    taken_down: set[str] = field(default_factory=set)
    num_labels: int | None = None
    """None: every document has one."""
    crashing: set[str] = field(default_factory=set)
    """Stages that raise."""
    refused: set[str] = field(default_factory=set)
    """Stages of which the first blocking check fails."""
    during: dict[str, Callable[[], None]] = field(default_factory=dict)
    """Called in the middle of a making of the stage."""


class Story:
    """A store, a Dagster instance and the sensor's cursor."""

    def __init__(self, root: Path, patch: pytest.MonkeyPatch, *, through_executor: bool = False) -> None:
        self.root = root
        self.through_executor = through_executor
        self.instance = dg.DagsterInstance.ephemeral()
        self.patch = patch
        self.cursor: str | None = None
        self.world = World()
        self.names: dict[str, str] = {}
        self.queued: list[tuple[str, dg.RunRequest]] = []
        patch.setenv("SMARTDEVDIGEST_PROFILE", "ci")
        patch.setenv("SMARTDEVDIGEST_STORE", str(root / "store"))
        _shrink_stages(self.world, patch)

    @property
    def store(self) -> ArtifactStore:
        return ArtifactStore(self.root / "store")

    def set(self, **overrides: Any) -> None:
        """Edit the settings, as whoever edits config.yaml under a running daemon."""
        self.patch.setenv("SMARTDEVDIGEST_OVERRIDES", json.dumps(overrides))

    def lands(self, name: str, num_documents: int) -> str:
        """A drop is taken in: what the drop sensor and its job do."""
        key = self.arrives(name, num_documents)
        self.execute(asked_for("raw_crawl", partition=key))
        return key

    def arrives(self, name: str, num_documents: int) -> str:
        """A drop is known, and its run has yet to take it in."""
        file = self.root / f"{name}.jsonl"
        file.write_text("".join(f'{{"url": "{name}/{index}"}}\n' for index in range(num_documents)), encoding="utf-8")
        key = register_drop(self.store, file)
        self.names[key] = name
        self.instance.add_dynamic_partitions(str(DROPS.name), [key])
        return key

    def ticks(self) -> list[str]:
        """One tick of the sensor: what it starts, in the order of the graph. The runs are left queued."""
        context = dg.build_sensor_context(instance=self.instance, repository_def=REPOSITORY, cursor=self.cursor)
        outcome = keep_up_to_date.evaluate_tick(context)
        self.cursor = outcome.cursor
        for request in outcome.run_requests or []:
            self.queue_request(request)
        asked = [
            (key.to_user_string(), r.partition_key) for r in outcome.run_requests or [] for key in r.asset_selection
        ]
        asked.sort(key=lambda each: (ORDER.index(each[0]), self.names.get(each[1] or "", "")))
        return [f"{name}[{self.names[key]}]" if key else name for name, key in asked]

    def finish(self) -> None:
        """Every queued run is executed to its end."""
        while self.queued:
            self._execute(*self.queued.pop(0))

    def until_quiet(self) -> list[list[str]]:
        """What each tick starts, its runs finished before the next one, until two ticks start nothing."""
        started: list[list[str]] = []
        while starts := self.ticks():
            started.append(starts)
            self.finish()
            assert len(started) < 30, started
        assert self.ticks() == []
        return started

    def execute(self, request: dg.RunRequest) -> dg.DagsterRunStatus:
        """A run that somebody else starts, to its end."""
        return self._execute(self._create(request), request)

    def materialize(self, name: str) -> dg.DagsterRunStatus:
        """What `Materialize` in the UI does."""
        return self.execute(asked_for(name))

    def queue(self, *names: str) -> None:
        """A run that somebody else starts, left queued."""
        self.queue_request(asked_for(*names))

    def queue_request(self, request: dg.RunRequest) -> None:
        self.queued.append((self._create(request), request))

    def cancel(self) -> None:
        """Every queued run is taken out of the queue."""
        for run_id, _ in self.queued:
            run = self.instance.get_run_by_id(run_id)
            self.instance.report_run_canceled(run)
        self.queued.clear()

    def _create(self, request: dg.RunRequest) -> str:
        selection = frozenset(request.asset_selection)
        job, plan = _job(selection), _plan(selection)
        run = self.instance.create_run(
            job_name=job.name,
            run_id=None,
            run_config=QUIET,
            status=None,
            tags=request.tags,
            root_run_id=None,
            parent_run_id=None,
            step_keys_to_execute=plan.step_keys_to_execute,
            execution_plan_snapshot=plan,
            job_snapshot=job.get_job_snapshot(),
            parent_job_snapshot=job.get_parent_job_snapshot(),
            asset_selection=selection,
            asset_check_selection=None,
            resolved_op_selection=None,
            op_selection=None,
            remote_job_origin=None,
            job_code_origin=None,
            asset_graph=job.asset_layer.asset_graph,
        )
        return run.run_id

    def _execute(self, run_id: str, request: dg.RunRequest) -> dg.DagsterRunStatus:
        run = self.instance.get_run_by_id(run_id)
        if self.through_executor:
            execute_run(InMemoryJob(_job(run.asset_selection)), run, self.instance, raise_on_error=False)
        else:
            self._report(run_id, dg.DagsterEventType.RUN_START)
            failed: set[str] = set()
            for name in sorted((key.to_user_string() for key in request.asset_selection), key=ORDER.index):
                # A step below one that failed in its run is not executed.
                if failed.intersection(get_stage(name).inputs) or not self._make(run_id, name, request.partition_key):
                    failed.add(name)
            self._report(run_id, dg.DagsterEventType.RUN_FAILURE if failed else dg.DagsterEventType.RUN_SUCCESS)
        return self.instance.get_run_by_id(run_id).status

    def _make(self, run_id: str, name: str, partition: str | None) -> bool:
        try:
            making, _ = run_stage(plan_stage(name, load_settings(), partition), lambda line: None)
        except RuntimeError:
            self._report(run_id, dg.DagsterEventType.STEP_FAILURE, name, StepFailureData(None, None))
            return False
        made = dg.AssetMaterialization(name, partition=partition, tags={"dagster/data_version": making.version})
        self._report(run_id, dg.DagsterEventType.ASSET_MATERIALIZATION, name, StepMaterializationData(made))
        return making.passed_gates

    def _report(self, run_id: str, kind: dg.DagsterEventType, step: str | None = None, data: Any = None) -> None:
        event = dg.DagsterEvent(kind.value, "__ASSET_JOB", step_key=step, event_specific_data=data)
        self.instance.report_dagster_event(event, run_id)


@cache
def _job(selection: frozenset[dg.AssetKey]) -> dg.JobDefinition:
    """The part of the asset job that makes these."""
    return REPOSITORY.get_job("__ASSET_JOB").get_subset(asset_selection=selection)


@cache
def _plan(selection: frozenset[dg.AssetKey]) -> ExecutionPlanSnapshot:
    """The steps of such a run. `create_run_for_job` plans them anew for each, after another subset of the job."""
    job = _job(selection)
    return snapshot_from_execution_plan(create_execution_plan(job, QUIET), job.get_job_snapshot_id())


def asked_for(*names: str, partition: str | None = None) -> dg.RunRequest:
    """A run that somebody else asks for."""
    tags = {"dagster/partition": partition} if partition else {}
    return dg.RunRequest(asset_selection=[dg.AssetKey(name) for name in names], partition_key=partition, tags=tags)


def _shrink_stages(world: World, patch: pytest.MonkeyPatch) -> None:
    for module in set(STAGE_MODULES.values()):
        loaded = registry.importlib.import_module(module)
        stages = getattr(loaded, "STAGES", None) or (loaded.STAGE,)
        small = tuple(replace(stage, make=_small(stage, world), own_process=False) for stage in stages)
        patch.setattr(loaded, "STAGES", small, raising=False)


def _small(stage: Stage, world: World) -> Callable[[StageContext], StageReport]:
    def make(context: StageContext) -> StageReport:
        if stage.name in world.crashing:
            raise RuntimeError("out of memory")
        if stage.name in world.during:
            world.during.pop(stage.name)()
        _write_versions(context, stage)
        metrics = _WRITERS[stage.name](context, world) if stage.name in _WRITERS else {}
        refused = stage.name in world.refused
        blocking = [check.name for check in stage.checks if check.blocking]
        checks = tuple(
            CheckResult(check.name, not (refused and check.name == blocking[0]), "as the story goes")
            for check in stage.checks
        )
        return StageReport(metrics, checks)

    return make


def _write_versions(context: StageContext, stage: Stage) -> None:
    """What a stage makes differs with what it is made from; a corpus, a label file and a release say it themselves."""
    if stage.name in _WRITERS:
        return
    versions = {
        name: {key: each.version for key, each in given.items()} if isinstance(given, dict) else given.version
        for name, given in context.inputs.items()
    }
    settings = {path: str(reduce(getattr, path.split("."), context.settings)) for path in stage.settings}
    (context.out / "made_from.json").write_text(json.dumps([versions, settings], sort_keys=True), encoding="utf-8")


def _write_drop(context: StageContext, world: World) -> dict[str, float]:
    text = drop_path(context.store, str(context.partition)).read_text(encoding="utf-8")
    (context.out / "documents.jsonl").write_text(text, encoding="utf-8")
    return {}


def _write_cleaned(context: StageContext, world: World) -> dict[str, float]:
    text = (context.input("raw_crawl").path / "documents.jsonl").read_text(encoding="utf-8")
    quality = context.settings.corpus.quality.model_dump_json()
    (context.out / "documents.jsonl").write_text(text + quality + "\n", encoding="utf-8")
    return {}


def _write_corpus(context: StageContext, world: World) -> dict[str, float]:
    urls: list[str] = []
    for key, drop in context.partitions("cleaned_documents").items():
        lines = (drop.path / "documents.jsonl").read_text(encoding="utf-8").splitlines()
        kept = [line for line in lines if json.loads(line).get("url") not in world.taken_down]
        (context.out / "decisions").mkdir(exist_ok=True)
        (context.out / "decisions" / f"{key}.parquet").write_text("\n".join(kept), encoding="utf-8")
        urls += [url for line in kept if (url := json.loads(line).get("url"))]
    split = context.settings.corpus.split.model_dump()
    (context.out / "urls.json").write_text(json.dumps([urls, split]), encoding="utf-8")
    snapshot = context.store.current("corpus_snapshot")
    frozen = _urls(snapshot) if snapshot else []
    return {"num_documents": len(urls), "num_taken_down_in_snapshot": len(world.taken_down.intersection(frozen))}


def _write_snapshot(context: StageContext, world: World) -> dict[str, float]:
    corpus = context.input("cleaned_corpus")
    (context.out / "urls.json").write_bytes((corpus.path / "urls.json").read_bytes())
    return {"num_documents": len(_urls(corpus))}


def _write_labels(context: StageContext, world: World) -> dict[str, float]:
    urls = _urls(context.input("cleaned_corpus"))
    labels = urls if world.num_labels is None else urls[: world.num_labels]
    teacher = context.settings.labeling.openai.model_dump()
    (context.out / "labels.json").write_text(json.dumps([labels, teacher]), encoding="utf-8")
    return {"num_labeled": len(labels)}


def _write_release(context: StageContext, world: World) -> dict[str, float]:
    current = context.store.current("release")
    candidate = context.input("quantized_model").version
    is_served = current is not None and read_release(current)["quantized_model"] == candidate
    if current is not None and (is_served or "release" in world.refused):
        (context.out / "release.json").write_bytes((current.path / "release.json").read_bytes())
    else:
        content = {"quantized_model": candidate, "previous": current.version if current else None}
        (context.out / "release.json").write_text(json.dumps(content), encoding="utf-8")
    return {}


def _urls(artifact: Artifact) -> list[str]:
    urls: list[str] = json.loads((artifact.path / "urls.json").read_text(encoding="utf-8"))[0]
    return urls


_WRITERS: dict[str, Callable[[StageContext, World], dict[str, float]]] = {
    "raw_crawl": _write_drop,
    "cleaned_documents": _write_cleaned,
    "cleaned_corpus": _write_corpus,
    "corpus_snapshot": _write_snapshot,
    "labeled_pairs": _write_labels,
    "release": _write_release,
}
