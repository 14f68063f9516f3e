import json
import subprocess
import sys
from pathlib import Path

import pytest
from commands import at_the_prompt, in_this_process

from smartdevdigest_ops.cli import main

COMMANDS = (
    *("run", "digest", "serve", "crawl", "evaluate", "verify", "lineage", "release", "prune", "plan", "label"),
    *("path", "ui"),
)


@pytest.fixture(autouse=True)
def _scratch_store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SMARTDEVDIGEST_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("SMARTDEVDIGEST_PROFILE", "ci")
    monkeypatch.delenv("SMARTDEVDIGEST_OVERRIDES", raising=False)


def test_help_needs_no_heavy_package():
    code = (
        "import sys; from smartdevdigest_ops.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'transformers', 'dagster', 'pandas', 'numpy', 'pyarrow', 'fastapi', 'uvicorn'}\n"
        "heavy &= set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert all(f"\n    {command}" in ended.stdout for command in COMMANDS)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["verify"], "There is no store"),
        (["run", "--drop", "nowhere.jsonl"], "nowhere.jsonl is not a file"),
        (["run", "--select", "nosuch"], "nosuch"),
    ],
)
def test_at_the_prompt_bad_input_is_one_readable_paragraph_and_exit_code_2(arguments: list[str], said: str):
    # Exactly what a user gets, environment included, and a code location that is imported for this store alone.
    ended = at_the_prompt(*arguments)
    assert ended.code == 2, ended.said
    assert said in ended.said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "--profile", "nosuch"], "no profile 'nosuch'"),
        (["run", "--set", "model.devce=cpu"], "model.devce: unknown key"),
        (["run", "--set", "seed"], "KEY=VALUE"),
        (["run", "--set", "seed=["], "not YAML"),
        (["run", "--set", "seed=1", "--set", "seed.x=2"], "no settings below it"),
        (["run", "--set", "profile=ci"], "--profile"),
        (["prune"], "There is no store"),
        (["release"], "There is no release"),
        (["release", "--why", "x"], "--promote VERSION or --rollback"),
        (["release", "--rollback", "--why", "x"], "no earlier release"),
        (["path", "base_model[x]"], "does not come by drop"),
        (["digest", "nowhere.json"], "nowhere.json is not a file"),
        (["digest", "-", "--model", "nowhere"], "no model directory"),
        (["digest", "-"], "release"),
        (["serve"], "There is no release"),
        (["serve", "--model", "nowhere"], "no model directory"),
        (["serve", "--port", "99999"], "serving.port"),
        (["evaluate", "--documents", "nowhere", "-o", "x"], "nowhere is not a file"),
        (["plan", "--gpus", "0"], "0 is not above 0"),
        (["plan", "--config", "nowhere.json"], "nowhere.json is not a file"),
        (["label", "--quote"], "There is no cleaned_corpus"),
        (["path", "m1_checkpoint"], "no current version"),
        (["path", "m3_checkpoint"], "There is no asset 'm3_checkpoint'"),
    ],
)
def test_bad_input_is_one_readable_paragraph_and_exit_code_2(arguments: list[str], said: str):
    ended = in_this_process(*arguments)
    assert ended.code == 2, ended.said
    assert said in ended.said


def test_trials_names_the_store_as_a_reader_would_type_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    assert main(["trials"]) == 2
    assert "store holds no evaluation report" in (said := capsys.readouterr().err)
    assert str(tmp_path) not in said


def test_digest_leaves_the_target_alone_when_nothing_comes_out(tmp_path: Path, tiny_base_model: Path):
    (tmp_path / "bad.jsonl").write_text("not json\n")
    (tmp_path / "out.jsonl").write_text("precious")
    out = str(tmp_path / "out.jsonl")
    assert main(["digest", str(tmp_path / "bad.jsonl"), "-o", out, "--model", str(tiny_base_model)]) == 2
    assert (tmp_path / "out.jsonl").read_text() == "precious"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.jsonl", "out.jsonl"]


def test_digest_can_write_over_its_own_input(tmp_path: Path, tiny_base_model: Path):
    record = {"source_type": "blog", "url": "https://a.example/x", "language": "en", "title": None, "content": "Text."}
    file = tmp_path / "documents.jsonl"
    file.write_text(json.dumps(record) + "\n")
    assert main(["digest", str(file), "-o", str(file), "--with-urls", "--model", str(tiny_base_model)]) == 0
    (line,) = file.read_text(encoding="utf-8").split("\n")[:-1]
    assert json.loads(line)["url"] == record["url"]


@pytest.mark.parametrize("target", ["missing/out.jsonl", "."])
def test_a_target_that_cannot_be_written_is_no_traceback(
    tmp_path: Path, tiny_base_model: Path, capsys: pytest.CaptureFixture[str], target: str
):
    (tmp_path / "one.json").write_text("{}")
    out = str(tmp_path / target)
    assert main(["digest", str(tmp_path / "one.json"), "-o", out, "--model", str(tiny_base_model)]) == 2
    assert "smartdevdigest: " in capsys.readouterr().err


def test_overrides_of_the_command_line_reach_the_settings(monkeypatch: pytest.MonkeyPatch):
    from smartdevdigest_ops.settings import load_settings

    monkeypatch.setenv("SMARTDEVDIGEST_OVERRIDES", json.dumps({"model": {"threads": 2}}))
    main(["verify", "--set", "seed=5", "--set", "data.label_paths=[a, b]"])
    settings = load_settings()
    assert (settings.seed, settings.data.label_paths, settings.model.threads) == (5, ("a", "b"), 2)
