from pathlib import Path

import pytest

from smartdevdigest_ops.settings import SettingsError, load_settings, profile_names


@pytest.mark.parametrize("profile", ["sample", "ci", "gpu-30b", "bilingual"])
def test_every_profile_loads(profile: str):
    assert profile in profile_names()
    assert load_settings(profile).profile == profile


def test_the_gpu_profile_trains_as_the_plan_says():
    keys = ("batch_size", "learning_rate", "epochs", "warmup_steps", "gradient_accumulation")
    training = load_settings("gpu-30b").training
    assert [getattr(training.m1, key) for key in keys] == [2, 2e-5, 3, 100, 8]
    assert [getattr(training.m2, key) for key in keys] == [2, 1e-5, 5, 50, 8]
    assert load_settings("gpu-30b").model.max_length == 2048


@pytest.mark.parametrize(
    ("overrides", "path", "expected"),
    [
        ({"model": {"devce": "cpu"}}, "model.devce", "device"),
        ({"training": {"m1": {"lr": 1}}}, "training.m1.lr", "learning_rate"),
        ({"model": {"max_length": "long"}}, "model.max_length", "integer"),
        ({"model": {"device": "tpu"}}, "model.device", "'cuda'"),
        ({"training": {"m2": {"learning_rate": -1}}}, "training.m2.learning_rate", "greater than 0"),
        ({"training": {"m1": {"warmup_steps": 60, "max_steps": 60}}}, "training.m1", "warmup_steps=60"),
        ({"digesting": {"max_new_tokens": 1000}}, "(combination)", "max_length=1024"),
        ({"corpus": {"split": {"valid_share": 0.6, "test_share": 0.5}}}, "corpus.split", "nothing to train on"),
        ({"corpus": {"duplicates": {"bands": 5}}}, "corpus.duplicates", "multiple"),
        ({"serving": {"max_documents": 300}}, "serving", "max_queued_documents=256"),
        ({"serving": {"stop_timeout_seconds": 9}}, "serving", "cut off requests"),
    ],
)
def test_a_wrong_setting_is_refused_with_its_path_and_what_was_expected(overrides: dict, path: str, expected: str):
    with pytest.raises(SettingsError) as refused:
        load_settings("sample", overrides=overrides)
    assert path in str(refused.value)
    assert expected in str(refused.value)


def test_an_unknown_profile_names_those_that_exist():
    with pytest.raises(SettingsError, match="gpu-30b"):
        load_settings("smaple")


def test_a_settings_file_that_is_not_yaml_is_named_and_its_line_shown(tmp_path: Path):
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles" / "mine.yaml").write_text("model: [")
    (tmp_path / "config.yaml").write_text("seed: 1")
    with pytest.raises(SettingsError, match=r"mine\.yaml.*\n.*\n.*\n    model: \["):
        load_settings("mine", config_dir=tmp_path)


def test_the_environment_lays_over_the_profile(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("SMARTDEVDIGEST_STORE", str(tmp_path))
    monkeypatch.setenv("SMARTDEVDIGEST_OVERRIDES", "{seed: 5, model: {threads: 1}}")
    settings = load_settings("ci")
    assert (settings.store_dir, settings.seed, settings.model.threads) == (tmp_path, 5, 1)


def test_each_profile_has_a_store_of_its_own():
    assert load_settings("ci").store_dir != load_settings("sample").store_dir


def test_a_section_that_does_not_exist_cannot_be_declared():
    with pytest.raises(KeyError, match="modle"):
        load_settings("ci").only(("modle.max_length",))
