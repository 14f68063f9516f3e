"""The whole graph on the `ci` profile, as a user runs it: headless."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import dagster as dg
import pytest

from smartdevdigest_assets.definitions import defs
from smartdevdigest_assets.headless import Outcome, RunFailed, dagster_instance, drops_of, run_graph
from smartdevdigest_ops.artifacts import MANIFEST, ArtifactStore
from smartdevdigest_ops.contracts import Digest
from smartdevdigest_ops.housekeeping.verify import verify_store
from smartdevdigest_ops.settings import PROJECT_DIR, Settings, load_settings
from smartdevdigest_ops.stage import STAGE_MODULES, get_stage

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

NUM_SAMPLE_DROPS = 3


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SMARTDEVDIGEST_PROFILE", "ci")
        patch.setenv("SMARTDEVDIGEST_STORE", str(tmp_path_factory.mktemp("graph") / "store"))
        yield load_settings()


@pytest.fixture(scope="module")
def first_run(settings: Settings) -> Outcome:
    return run_graph(settings, drops_of(settings, []))


@pytest.fixture(scope="module")
def store(settings: Settings, first_run: Outcome) -> ArtifactStore:
    return ArtifactStore(settings.store_dir)


def current_makings(store: ArtifactStore) -> dict[str, object]:
    makings = {}
    for name in STAGE_MODULES:
        for partition in store.partitions(name) if get_stage(name).partitioned else [None]:
            makings[f"{name}[{partition}]" if partition else name] = store.current_making(name, partition)
    return makings


def versions_of(makings: dict[str, object]) -> dict[str, str]:
    return {name: making.version for name, making in makings.items()}


def test_the_first_run_makes_every_asset(first_run: Outcome, store: ArtifactStore):
    assert len(first_run.made) == len(STAGE_MODULES) + 2 * (NUM_SAMPLE_DROPS - 1)
    assert all(current_makings(store).values())


def test_every_check_ran_and_every_gate_passed(store: ArtifactStore):
    for name, making in current_makings(store).items():
        declared = {check.name for check in get_stage(name.partition("[")[0]).checks}
        assert {check["name"] for check in making.checks} == declared
        assert making.passed_gates


def test_every_document_of_the_newest_drop_has_a_digest_of_the_contract(first_run: Outcome, store: ArtifactStore):
    digests = store.current("digests", first_run.newest_drop)
    lines = [json.loads(line) for line in (digests.path / "digests.jsonl").open(encoding="utf-8")]
    assert len(lines) == 12
    for line in lines:
        Digest.model_validate(line["digest"])


def test_the_ui_sees_versions_numbers_and_checks_of_every_asset(settings: Settings, store: ArtifactStore):
    with dagster_instance(settings.store_dir) as instance:
        for name in STAGE_MODULES:
            event = instance.get_latest_materialization_event(dg.AssetKey(name))
            assert event is not None, name
            materialization = event.asset_materialization
            partition = materialization.partition
            making = store.current_making(name, partition)
            assert materialization.tags["dagster/data_version"] == making.version
            for metric, value in making.metrics.items():
                # Dagster shows NaN as text; a metric is a number.
                assert materialization.metadata[metric].value == pytest.approx(value, nan_ok=True)
            assert materialization.metadata["wall_seconds"].value >= 0
            assert materialization.metadata["peak_rss_mib"].value > 0


def test_a_second_run_makes_nothing(settings: Settings, first_run: Outcome):
    again = run_graph(settings, drops_of(settings, []))
    assert again.made == ()
    assert again.up_to_date == len(STAGE_MODULES) + 2 * (NUM_SAMPLE_DROPS - 1)


def test_dagster_calls_nothing_stale_after_a_run(settings: Settings, first_run: Outcome):
    query = "{assetNodes { assetKey { path } staleStatus }}"
    ended = subprocess.run(
        [str(Path(sys.executable).parent / "dagster-graphql"), "-w", str(PROJECT_DIR / "workspace.yaml"), "-t", query],
        env=os.environ | {"DAGSTER_HOME": str(settings.store_dir / "dagster")},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    answer = next(line for line in ended.stdout.split("\n") if line.startswith('{"data"'))
    nodes = json.loads(answer)["data"]["assetNodes"]
    stale = {node["assetKey"]["path"][-1]: node["staleStatus"] for node in nodes if node["staleStatus"] != "FRESH"}
    # Partitioned assets are asked for one partition at a time; only the newest drop was digested.
    assert set(stale) <= {"raw_crawl", "digests"}, stale


def test_every_published_byte_verifies(store: ArtifactStore):
    assert verify_store(store).problems == ()


def test_no_artifact_holds_a_path_of_this_machine(store: ArtifactStore):
    texts = (".json", ".jsonl", ".html", ".jinja", ".csv", ".md")
    for manifest in store.root.rglob(MANIFEST):
        for name in json.loads(manifest.read_text(encoding="utf-8"))["files"]:
            if name.endswith(texts):
                assert str(store.root).encode() not in (manifest.parent / name).read_bytes(), manifest.parent / name


# Stages whose artifacts may differ between two makings of the same: none but these.
NOT_REPRODUCED = {
    "digests": "each digest says how long it took (`processing_time` of the contract)",
}


def test_another_store_through_the_multiprocess_executor_holds_the_same_versions(store: ArtifactStore, tmp_path: Path):
    environment = os.environ | {
        "SMARTDEVDIGEST_PROFILE": "ci",
        "SMARTDEVDIGEST_STORE": str(tmp_path),
        "DAGSTER_HOME": str(tmp_path / "dagster"),
    }
    subprocess.run(
        [sys.executable, "-m", "smartdevdigest_ops.cli", "run", "--select", "raw_crawl"], env=environment, check=True
    )
    subprocess.run(
        [sys.executable, "-m", "dagster", "job", "execute", "-m", "smartdevdigest_assets.definitions", "-j", "refresh"],
        env=environment, check=True,
    )  # fmt: skip
    with dagster_instance(tmp_path) as instance:
        (run,) = instance.get_runs(dg.RunsFilter(job_name="refresh"))
        assert run.status == dg.DagsterRunStatus.SUCCESS
    first, second = (versions_of(current_makings(each)) for each in (store, ArtifactStore(tmp_path)))
    assert second == {name: version for name, version in first.items() if name.partition("[")[0] not in NOT_REPRODUCED}


def test_a_drop_of_bad_records_alone_stops_with_its_reasons(settings: Settings, first_run: Outcome, tmp_path: Path):
    drop = tmp_path / "bad.jsonl"
    drop.write_text('{"url": "https://a.example"}\nnot json\n')
    with pytest.raises(RunFailed, match=r"bad\.jsonl"):
        run_graph(settings, [drop])


def test_a_bad_drop_costs_a_good_one_nothing(settings: Settings, first_run: Outcome, tmp_path: Path):
    (tmp_path / "a_bad.jsonl").write_text("not json\n")
    good = drops_of(settings, [])[0]
    with pytest.raises(RunFailed, match=r"a_bad\.jsonl") as failed:
        run_graph(settings, [tmp_path / "a_bad.jsonl", good], selection="raw_crawl")
    assert failed.value.exit_code == 2
    with dagster_instance(settings.store_dir) as instance:
        assert len(instance.get_dynamic_partitions("drops")) == NUM_SAMPLE_DROPS


def test_a_refused_candidate_leaves_the_release_serving_and_the_drop_is_digested_by_it(
    settings: Settings, first_run: Outcome, store: ArtifactStore
):
    # A release that no candidate reaches.
    first = store.current_making("release")
    figures = json.loads((store.current("release").path / "release.json").read_text(encoding="utf-8"))
    figures["metrics"]["fr"] = figures["metrics"]["en"]  # a language that no candidate is measured in
    with store.staging("release") as staged:
        (staged / "release.json").write_text(json.dumps(figures), encoding="utf-8")
        unreachable = store.publish(staged, "release")
    store.record(replace(first, version=unreachable.version))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SMARTDEVDIGEST_OVERRIDES", "{training: {m2: {learning_rate: 0.05}}}")
        with pytest.raises(RunFailed) as refused:
            run_graph(load_settings(), drops_of(settings, []))
    assert refused.value.is_gate_refusal
    assert refused.value.exit_code == 1
    assert store.current("release").version == unreachable.version
    digests = store.current_making("digests", first_run.newest_drop)
    assert digests.inputs["release"] == unreachable.version
    store.record(first)


def test_one_more_drop_remakes_only_what_it_touches(settings: Settings, first_run: Outcome):
    # `digests` of the older drops read their own shard and the release, not the corpus.
    again = run_graph(settings, drops_of(settings, [])[:1], selection="digests")
    assert again.made in (("digests[" + again.newest_drop + "]",), ())


def test_every_job_of_the_code_location_has_its_assets():
    jobs = {job: defs.resolve_job_def(job) for job in ("ingest_drop", "refresh", "digest_drop")}
    assert {key.to_user_string() for job in jobs.values() for key in job.asset_layer.selected_asset_keys} == set(
        STAGE_MODULES
    )
