import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from smartdevdigest_ops.cli import main

COMMANDS = ("run", "digest", "evaluate", "verify", "path", "ui")


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
        "heavy = {'torch', 'transformers', 'dagster', 'pandas', 'numpy', 'pyarrow'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert all(f"\n    {command}" in ended.stdout for command in COMMANDS)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "--drop", "nowhere.jsonl"], "nowhere.jsonl is not a file"),
        (["run", "--profile", "nosuch"], "no profile 'nosuch'"),
        (["run", "--set", "model.devce=cpu"], "model.devce: unknown key"),
        (["run", "--set", "seed"], "KEY=VALUE"),
        (["run", "--set", "seed=["], "not YAML"),
        (["run", "--select", "nosuch"], "nosuch"),
        (["digest", "nowhere.json"], "nowhere.json is not a file"),
        (["digest", "-", "--model", "nowhere"], "no model directory"),
        (["digest", "-"], "release"),
        (["evaluate", "--documents", "nowhere", "-o", "x"], "nowhere is not a file"),
        (["path", "m1_checkpoint"], "no current version"),
        (["path", "m3_checkpoint"], "There is no asset 'm3_checkpoint'"),
    ],
)
def test_bad_input_is_one_readable_paragraph_and_exit_code_2(arguments: list[str], said: str):
    # In a process of its own: exactly what a user at the prompt gets, environment included.
    ended = subprocess.run(
        [sys.executable, "-m", "smartdevdigest_ops.cli", *arguments],
        capture_output=True, text=True, check=False, env=dict(os.environ), stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert ended.returncode == 2, ended.stderr
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr


def test_verify_finds_the_flipped_byte(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    from smartdevdigest_ops.artifacts import ArtifactStore

    store = ArtifactStore(tmp_path / "store")
    with store.staging("thing") as staged:
        (staged / "file.txt").write_text("content")
        artifact = store.publish(staged, "thing")
    assert main(["verify"]) == 0
    assert "1 artifacts, 1 files, 0 problems" in capsys.readouterr().out
    (artifact.path / "file.txt").write_text("cOntent")
    assert main(["verify"]) == 1
    assert f"{artifact.path / 'file.txt'}: content differs" in capsys.readouterr().out


def test_overrides_of_the_command_line_reach_the_settings(monkeypatch: pytest.MonkeyPatch):
    from smartdevdigest_ops.settings import load_settings

    monkeypatch.setenv("SMARTDEVDIGEST_OVERRIDES", json.dumps({"model": {"threads": 2}}))
    with pytest.raises(SystemExit):
        main(["--help"])
    main(["verify", "--set", "seed=5", "--set", "data.label_paths=[a, b]"])
    settings = load_settings()
    assert (settings.seed, settings.data.label_paths, settings.model.threads) == (5, ("a", "b"), 2)
