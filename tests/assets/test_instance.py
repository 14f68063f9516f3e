"""The Dagster instance of a store."""

from pathlib import Path

from smartdevdigest_assets.instance import prepare_dagster_home


def test_a_process_that_starts_at_the_same_time_has_linked_the_settings_already(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("DAGSTER_HOME", "")
    link = prepare_dagster_home(tmp_path) / "dagster.yaml"
    exists = Path.exists
    monkeypatch.setattr(Path, "exists", lambda path: path != link and exists(path))
    assert prepare_dagster_home(tmp_path) == link.parent
    assert link.is_symlink()
    assert [path.name for path in link.parent.iterdir()] == ["dagster.yaml"]
