"""The stage domain_tokenizer on the tiny base and the sample documents."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tokenizer_samples import write_base
from transformers import AutoTokenizer

from smartdevdigest_ops.artifacts import Artifact, ArtifactStore
from smartdevdigest_ops.stage import StageContext, StageReport
from smartdevdigest_ops.tokenizer.base import TokenizerError
from smartdevdigest_ops.tokenizer.stage import STAGE


@pytest.fixture
def corpus_dir(tmp_path, sample_documents) -> Path:
    """A corpus_snapshot: every eighth document is held out."""
    directory = tmp_path / "corpus"
    directory.mkdir()
    rows = [document.model_dump(include={"title", "content", "language"}) for document in sample_documents]
    splits = {"valid": rows[::8], "test": rows[1::8], "train": [r for i, r in enumerate(rows) if i % 8 > 1]}
    for split, part in splits.items():
        pq.write_table(pa.Table.from_pylist(part), directory / f"{split}.parquet")
    return directory


def make(settings, base_dir: Path, corpus_dir: Path, out: Path) -> StageReport:
    out.mkdir()
    inputs = {
        "base_model": Artifact("base_model", None, "1", base_dir, {}),
        "corpus_snapshot": Artifact("corpus_snapshot", None, "1", corpus_dir, {}),
    }
    store = ArtifactStore(out.parent / "store")
    return STAGE.make(StageContext(settings, inputs, out, out.parent, store, None, report_line=print))


def with_tokenizer(settings, **changes):
    return settings.model_copy(update={"tokenizer": settings.tokenizer.model_copy(update=changes)})


def test_the_sample_gives_a_tokenizer_that_passes_every_check(ci_settings, tiny_base_model, corpus_dir, tmp_path):
    report = make(ci_settings, tiny_base_model, corpus_dir, tmp_path / "out")
    assert {check.name for check in report.checks} == {check.name for check in STAGE.checks}
    assert [check.message for check in report.checks if not check.passed] == []
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    new_tokens = json.loads((tmp_path / "out" / "new_tokens.json").read_text())
    assert report.metrics["num_new_tokens"] == len(new_tokens) == len(tokenizer) - 1024
    assert report.metrics["num_learned"] == ci_settings.tokenizer.num_new_tokens
    for kind in ("ko", "en", "code"):
        assert report.metrics[f"bytes_per_token_{kind}_after"] > report.metrics[f"bytes_per_token_{kind}_before"]
    fertility = json.loads((tmp_path / "out" / "fertility.json").read_text())
    assert fertility["ko"]["token_change"] < 0
    assert report.notes["markdown"].startswith("| text |")


def test_making_it_again_gives_the_same_bytes(ci_settings, tiny_base_model, corpus_dir, tmp_path):
    make(ci_settings, tiny_base_model, corpus_dir, tmp_path / "a")
    make(ci_settings, tiny_base_model, corpus_dir, tmp_path / "b")
    for file in (tmp_path / "a").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes()


def test_fewer_merges_than_asked_for_are_learned_and_told(ci_settings, tiny_base_model, corpus_dir, tmp_path):
    settings = with_tokenizer(
        ci_settings, num_new_tokens=5000, min_frequency=9, min_gain=0.0, balance=0.0, required_terms=()
    )
    report = make(settings, tiny_base_model, corpus_dir, tmp_path / "out")
    assert 0 < report.metrics["num_new_tokens"] < 5000
    assert (
        f"{report.metrics['num_learned']:,} of 5,000 merges learned. No further pair has 9 votes"
        in (report.notes["merges"])
    )
    assert all(check.passed for check in report.checks)


def test_merges_stop_where_a_further_one_is_not_worth_a_token(ci_settings, tiny_base_model, corpus_dir, tmp_path):
    settings = with_tokenizer(
        ci_settings, num_new_tokens=5000, min_frequency=1, min_gain=1e-4, balance=0.0, required_terms=()
    )
    report = make(settings, tiny_base_model, corpus_dir, tmp_path / "out")
    assert 0 < report.metrics["num_learned"] < 5000
    assert "would save less than 0.0100% of the train split's tokens" in report.notes["merges"]
    assert all(check.passed for check in report.checks)


def test_a_base_that_speaks_the_language_is_kept_and_says_so(ci_settings, tiny_base_model, corpus_dir, tmp_path):
    settings = with_tokenizer(ci_settings, min_gain=0.2, required_terms=())
    report = make(settings, tiny_base_model, corpus_dir, tmp_path / "out")
    assert report.metrics["num_new_tokens"] == 0
    assert report.notes["merges"].startswith("0 of 100 merges learned.")
    assert "The base tokenizer speaks the languages of this corpus" in report.notes["merges"]
    kept, base = ((d / "tokenizer.json").read_bytes() for d in (tmp_path / "out", tiny_base_model))
    assert kept == base
    assert all(check.passed for check in report.checks)


def test_merges_inside_morphemes_pass_every_check(ci_settings, tiny_base_model, corpus_dir, tmp_path):
    settings = with_tokenizer(ci_settings, num_new_tokens=150, min_gain=0.0, min_frequency=4, korean_morphemes=True)
    report = make(settings, tiny_base_model, corpus_dir, tmp_path / "out")
    assert [check.message for check in report.checks if not check.passed] == []
    assert report.metrics["num_learned"] > 100


def test_required_terms_alone_are_added_without_learning(ci_settings, tiny_base_model, corpus_dir, tmp_path):
    settings = with_tokenizer(ci_settings, num_new_tokens=0, required_terms=("쿠버네티스",))
    report = make(settings, tiny_base_model, corpus_dir, tmp_path / "out")
    assert all(check.passed for check in report.checks)
    tokens = AutoTokenizer.from_pretrained(tmp_path / "out").encode("쿠버네티스 쿠버네티스", add_special_tokens=False)
    assert len(tokens) == 2


def test_a_base_of_another_kind_is_kept_as_it_is_or_refused(ci_settings, corpus_dir, tmp_path):
    base_dir = write_base(tmp_path / "base", [("t", "h")])
    tree = json.loads((base_dir / "tokenizer.json").read_text())
    characters = sorted(
        {c for path in corpus_dir.glob("*.parquet") for r in pq.read_table(path).to_pylist() for c in r["content"]}
    )
    tree["model"] |= {"vocab": {c: i for i, c in enumerate([*tree["model"]["vocab"], *characters])}, "merges": []}
    tree |= {"pre_tokenizer": None, "decoder": {"type": "Fuse"}}
    (base_dir / "tokenizer.json").write_text(json.dumps(tree))
    kept = with_tokenizer(ci_settings, num_new_tokens=0, required_terms=())
    report = make(kept, base_dir, corpus_dir, tmp_path / "kept")
    assert report.metrics["num_new_tokens"] == 0
    assert (tmp_path / "kept" / "tokenizer.json").read_bytes() == (base_dir / "tokenizer.json").read_bytes()
    with pytest.raises(TokenizerError, match="BPE over characters"):
        make(ci_settings, base_dir, corpus_dir, tmp_path / "refused")


def test_the_stage_reads_only_the_settings_it_declares():
    assert STAGE.settings == ("tokenizer",)
    assert STAGE.inputs == ("base_model", "corpus_snapshot")
    assert STAGE.own_process
