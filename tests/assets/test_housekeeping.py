from pathlib import Path

import pytest
from lineage_samples import Chain

from smartdevdigest_assets.definitions import defs
from smartdevdigest_assets.housekeeping import prune_store


@pytest.fixture
def chain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Chain:
    monkeypatch.setenv("SMARTDEVDIGEST_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("SMARTDEVDIGEST_OVERRIDES", "{store: {keep_versions: 1}}")
    return Chain(tmp_path / "store")


def test_the_job_removes_old_versions_and_says_which(chain: Chain) -> None:
    old, new = (chain.model("m2_adapter", {}) for _ in range(2))
    result = prune_store.execute_in_process()
    assert not old.path.exists()
    assert new.path.exists()
    [output] = [event.event_specific_data for event in result.all_events if event.event_type_value == "STEP_OUTPUT"]
    assert output.metadata["num_removed"].value == 1
    assert output.metadata["freed_bytes"].value == result.output_for_node("prune_versions") > 0
    assert old.version in output.metadata["removed"].value


def test_a_store_that_is_damaged_fails_the_job_and_keeps_everything(chain: Chain) -> None:
    old, new = (chain.model("m2_adapter", {}) for _ in range(2))
    (new.path / "model.txt").unlink()
    result = prune_store.execute_in_process(raise_on_error=False)
    assert not result.success
    assert old.path.exists()


def test_the_schedule_is_off_until_it_is_switched_on() -> None:
    schedule = defs.get_schedule_def("prune_store_schedule")
    assert schedule.default_status.value == "STOPPED"
