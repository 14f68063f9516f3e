import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from lineage_samples import Chain, page_id

from smartdevdigest_ops.artifacts import INPUTS_FILE, Artifact, ArtifactError, content_hash
from smartdevdigest_ops.cli import main
from smartdevdigest_ops.housekeeping.prune import plan_prune, prune
from smartdevdigest_ops.lineage.document_index import DocumentIndex, document_files
from smartdevdigest_ops.lineage.impact import find_impact
from smartdevdigest_ops.settings import Settings, load_settings
from smartdevdigest_ops.training.encoding import encode_corpus


def settings_of(chain: Chain, **store: float) -> Settings:
    return load_settings("ci", overrides={"store": {"root": str(chain.store.root), "keep_versions": 1, **store}})


def in_store(chain: Chain, asset: str) -> list[str]:
    return [artifact.version for artifact in chain.store.versions() if artifact.asset == asset]


def models(chain: Chain, number: int) -> list[Artifact]:
    return [chain.model("m2_adapter", {}) for _ in range(number)]


def release(chain: Chain, model: Artifact) -> Artifact:
    report = chain.model("evaluation_report", {"quantized_model": model.version})
    before = chain.store.current("release")
    content = {
        "quantized_model": model.version,
        "evaluation_report": report.version,
        "previous": before and before.version,
        "metrics": {},
    }
    inputs = {"quantized_model": model.version, "evaluation_report": report.version}
    return chain.publish("release", lambda out: (out / "release.json").write_text(json.dumps(content)), inputs=inputs)


def test_the_newest_versions_stay_and_older_ones_go(chain: Chain) -> None:
    made = models(chain, 5)
    report = prune(settings_of(chain, keep_versions=2), lambda line: None)
    assert sorted(in_store(chain, "m2_adapter")) == sorted(each.version for each in made[3:])
    assert [removal.artifact.version for removal in report.removed] == sorted(each.version for each in made[:3])
    assert report.num_bytes == 3 * (len("m2_adapter 0") + (made[4].path / "manifest.json").stat().st_size)


def test_what_is_current_stays_though_newer_versions_failed_their_gates(chain: Chain) -> None:
    good = chain.model("m2_adapter", {})
    failed = {"name": "gate", "passed": False, "blocking": True, "message": "", "metadata": {}}
    bad = chain.model("m2_adapter", {}, checks=[failed])
    prune(settings_of(chain), lambda line: None)
    assert set(in_store(chain, "m2_adapter")) == {good.version, bad.version}


def test_whatever_a_kept_version_was_made_from_stays(chain: Chain, graph) -> None:
    for _ in range(3):
        chain.snapshot(train=[f"later {_}"], valid=["v"], test=["t"])
        chain.model("m1_checkpoint", {})
    prune(settings_of(chain), lambda line: None)
    # m2_adapter is current and was made from the first M1, that from the first snapshot.
    assert graph["m1_checkpoint"].version in in_store(chain, "m1_checkpoint")
    assert graph["corpus_snapshot"].version in in_store(chain, "corpus_snapshot")
    assert len(in_store(chain, "m1_checkpoint")) == len(in_store(chain, "corpus_snapshot")) == 2


def test_the_chain_stays_whole_and_the_models_of_its_newest_releases(chain: Chain) -> None:
    made = [chain.model("quantized_model", {}) for _ in range(4)]
    released = [release(chain, model) for model in made]
    chain.model("quantized_model", {})
    prune(settings_of(chain, keep_releases=2), lambda line: None)
    assert set(in_store(chain, "release")) == {each.version for each in released}
    left = in_store(chain, "quantized_model")
    assert [model.version in left for model in made] == [False, False, True, True]


def test_a_store_whose_release_cannot_be_read_is_left_alone(chain: Chain) -> None:
    models(chain, 3)
    released = release(chain, chain.model("quantized_model", {}))
    (released.path / "release.json").write_text("{}")
    with pytest.raises(ArtifactError):
        prune(settings_of(chain), lambda line: None)
    assert len(in_store(chain, "m2_adapter")) == 3


def test_what_an_unfinished_making_reads_stays_until_its_scratch_is_old(chain: Chain) -> None:
    made = models(chain, 3)
    scratch = chain.store.scratch("quantized_model", "f" * 16)
    (scratch / INPUTS_FILE).write_text(
        json.dumps({"partition": None, "inputs": {"m2_adapter": made[0].version}}), encoding="utf-8"
    )
    prune(settings_of(chain), lambda line: None)
    assert set(in_store(chain, "m2_adapter")) == {made[0].version, made[2].version}
    week = time.time() - 7 * 86_400
    for path in (scratch / INPUTS_FILE, scratch):
        os.utime(path, (week, week))
    prune(settings_of(chain, keep_scratch_days=6), lambda line: None)
    assert not scratch.exists()
    prune(settings_of(chain, keep_scratch_days=6), lambda line: None)
    assert in_store(chain, "m2_adapter") == [made[2].version]


def test_scratch_in_which_a_stage_removes_files_meanwhile_is_no_error_and_stays(chain: Chain, monkeypatch) -> None:
    checkpoint = chain.store.scratch("m1_checkpoint", "f" * 16) / "checkpoint-1"
    checkpoint.mkdir()
    (checkpoint / "weights").write_text("w")
    week = time.time() - 7 * 86_400
    for path in (checkpoint / "weights", checkpoint, checkpoint.parent):
        os.utime(path, (week, week))
    lstat = os.lstat

    def removed_since_it_was_listed(path):
        if path == checkpoint / "weights":
            raise FileNotFoundError(path)
        return lstat(path)

    with monkeypatch.context() as patched:
        patched.setattr("smartdevdigest_ops.housekeeping.prune.os.lstat", removed_since_it_was_listed)
        prune(settings_of(chain, keep_scratch_days=6), lambda line: None)
    assert checkpoint.parent.is_dir()


def test_an_asset_that_is_being_made_is_left_for_the_next_time(chain: Chain) -> None:
    models(chain, 3)
    with chain.store.lock("m2_adapter", None):
        report = prune(settings_of(chain), lambda line: None)
    assert len(report.busy) == 2
    assert len(in_store(chain, "m2_adapter")) == 3
    assert len(prune(settings_of(chain), lambda line: None).removed) == 2


def test_a_reader_with_an_open_file_reads_it_to_its_end(chain: Chain) -> None:
    old, *_ = models(chain, 2)
    with (old.path / "model.txt").open() as stream:
        prune(settings_of(chain), lambda line: None)
        assert not old.path.exists()
        assert stream.read().startswith("m2_adapter")


def test_bytes_that_a_kept_version_shares_are_not_counted(chain: Chain) -> None:
    def write(text: str):
        def fill(out) -> None:
            (out / "own").write_text(text)
            (out / "shared").write_bytes(b"x" * 1000)

        return fill

    first = chain.publish("m2_adapter", write("1"))
    second = chain.publish("m2_adapter", write("2"))
    (second.path / "shared").unlink()
    os.link(first.path / "shared", second.path / "shared")
    [removal] = plan_prune(settings_of(chain))
    assert removal.num_bytes == 1 + (first.path / "manifest.json").stat().st_size


def test_lineage_still_answers_for_what_was_pruned(chain: Chain, graph) -> None:
    before = [str(impact) for impact in find_impact(chain.store, [page_id("c")])]
    for name in ("corpus_snapshot", "labeled_pairs"):
        chain.snapshot(name, train=["b"], valid=["v"], test=["t"])
    for name in ("domain_tokenizer", "m1_checkpoint", "m2_adapter", "quantized_model", "evaluation_report"):
        chain.model(name, {})
    prune(settings_of(chain), lambda line: None)
    assert graph["corpus_snapshot"].version not in in_store(chain, "corpus_snapshot")
    assert [str(impact) for impact in find_impact(chain.store, [page_id("c")])] == [
        line.replace(" (current)", "") for line in before
    ]


def test_entries_of_the_document_index_that_nothing_names_go(chain: Chain, graph) -> None:
    index = DocumentIndex(chain.store)
    index.add(graph["corpus_snapshot"])
    stray = index.directory / f"{'0' * 32}.ids"
    stray.write_bytes(b"\0\0\0\0")
    prune(settings_of(chain), lambda line: None)
    assert not stray.exists()
    assert all(index.place(sha256).is_file() for _, sha256 in document_files(graph["corpus_snapshot"]))


def test_token_ids_of_documents_that_no_snapshot_holds_go_and_the_others_stay(chain: Chain, tiny_base_model) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq
    from transformers import AutoTokenizer

    def snapshot(*texts: str) -> Artifact:
        def write(out) -> None:
            columns = {"document_id": [content_hash(each) for each in texts], "content": list(texts)}
            pq.write_table(pa.table(columns), out / "train.parquet")

        return chain.publish("corpus_snapshot", write)

    tokenizer = AutoTokenizer.from_pretrained(tiny_base_model)
    cache_dir = chain.store.root / ".token_ids"
    texts = [f"Document {n} about containers and services." for n in range(6)]
    before = encode_corpus(tokenizer, texts, cache_dir=cache_dir)
    expected = [before.token_ids(n).tolist() for n in (1, 4)]
    snapshot(*texts)
    snapshot(texts[1], texts[4])
    report = prune(settings_of(chain), lambda line: None)
    assert report.num_forgotten_bytes > 0
    [segment] = [path for path in cache_dir.glob("*/*") if path.is_dir()]
    assert len(np.load(segment / "documents.npy")) == 2
    again = encode_corpus(tokenizer, [texts[1], texts[4]], cache_dir=cache_dir)
    assert [again.token_ids(n).tolist() for n in range(2)] == expected
    assert [path for path in cache_dir.glob("*/*") if path.is_dir()] == [segment]  # nothing was tokenized again
    assert prune(settings_of(chain), lambda line: None).num_forgotten_bytes == 0


def test_a_killed_prune_leaves_every_version_whole_or_gone(chain: Chain) -> None:
    made = models(chain, 40)
    code = (
        "import sys; from smartdevdigest_ops.housekeeping.prune import prune\n"
        "from smartdevdigest_ops.settings import load_settings\n"
        "settings = load_settings('ci', overrides={'store': {'root': sys.argv[1], 'keep_versions': 1}})\n"
        "prune(settings, lambda line: print(line, flush=True))"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(chain.store.root)], stdout=subprocess.PIPE) as pruning:
        pruning.stdout.readline()
        pruning.send_signal(signal.SIGKILL)
    left = [artifact for artifact in made if artifact.path.exists()]
    assert left
    assert all(not artifact.problems() for artifact in left)
    prune(settings_of(chain), lambda line: None)
    assert in_store(chain, "m2_adapter") == [made[-1].version]
    assert not (chain.store.root / ".trash").exists()


def test_the_command_says_what_it_would_remove_and_removes_it(chain: Chain, monkeypatch, capsys) -> None:
    old, _ = models(chain, 2)
    monkeypatch.setenv("SMARTDEVDIGEST_STORE", str(chain.store.root))
    arguments = ["prune", "--set", "store.keep_versions=1"]
    monkeypatch.setenv("SMARTDEVDIGEST_OVERRIDES", "{}")  # restored, whatever --set writes into it
    assert main([*arguments, "--dry-run"]) == 0
    told = capsys.readouterr().out
    assert f"would remove m2_adapter@{old.version}" in told
    assert "1 to remove" in told
    assert old.path.exists()
    assert main(arguments) == 0
    assert f"removed m2_adapter@{old.version}" in capsys.readouterr().out
    assert not old.path.exists()
