import json
import shutil
from dataclasses import replace

import pytest
from corpus_samples import publish, publish_corpus
from tqdm import tqdm

from smartdevdigest_ops.artifacts import ArtifactStore
from smartdevdigest_ops.contracts import Difficulty, Digest
from smartdevdigest_ops.digesting.errors import DigestingError
from smartdevdigest_ops.digesting.model import Digester, DigestOutcome, load_digester, write_digest_config
from smartdevdigest_ops.digesting.outputs import DigestFiles, DigestTally
from smartdevdigest_ops.digesting.stage import (
    CorpusDocument,
    check_digests_are_valid,
    check_documents_have_digests,
    check_summary_language,
    digest_documents,
)

DROP = "0123456789abcdef"


@pytest.fixture
def store(ci_settings, tiny_base_model, sample_documents) -> ArtifactStore:
    """A store with a corpus of six documents, a model and a release that names it."""

    def model(out):
        shutil.copytree(tiny_base_model, out, dirs_exist_ok=True)
        write_digest_config(out, ci_settings)

    opened = ArtifactStore(ci_settings.store_dir)
    publish_corpus(opened, {"train": sample_documents[:6]}, DROP)
    version = publish(opened, "quantized_model", model)
    publish(opened, "release", lambda out: (out / "release.json").write_text(json.dumps({"quantized_model": version})))
    return opened


def test_every_document_of_the_drop_gets_a_digest(store, ci_settings, run, sample_documents):
    import pyarrow.parquet as pq

    making = run("digests", ci_settings, DROP)
    artifact = store.current("digests", DROP)
    lines = [json.loads(line) for line in (artifact.path / "digests.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line["url"] for line in lines] == [document.url for document in sample_documents[:6]]
    digests = [Digest.model_validate(line["digest"]) for line in lines]
    table = pq.read_table(artifact.path / "digests.parquet").to_pylist()
    assert [row["summary"] for row in table] == [digest.summary for digest in digests]
    assert [row["difficulty_score"] for row in table] == [digest.difficulty_level.score for digest in digests]
    assert making.metrics["num_documents"] == making.metrics["num_valid"] == 6
    assert making.metrics["tokens_per_second"] > 0
    passed = {check["name"]: check["passed"] for check in making.checks}
    assert passed["every_digest_is_valid"]
    assert passed["every_document_has_a_digest"]


def test_without_a_released_model_the_stage_says_so(store, ci_settings, run):
    publish(store, "release", lambda out: (out / "release.json").write_text('{"quantized_model": null}'))
    with pytest.raises(DigestingError, match="no model was ever released"):
        run("digests", ci_settings, DROP)


def test_a_killed_making_digests_only_the_batches_it_lacks(store, monkeypatch, sample_documents, tmp_path):
    model_dir = store.current("quantized_model").path
    digester = load_digester(model_dir, device="cpu", precision="float32", threads=1)
    digester.settings = digester.settings.model_copy(update={"batch_size": 1})
    documents = [
        CorpusDocument(f"{i}", d.url, d.language, d.title, d.content) for i, d in enumerate(sample_documents[:6])
    ]

    def digests(journal):
        with tqdm(disable=True) as progress:
            return [o for _, o in digest_documents(digester, iter(documents), journal=journal, progress=progress)]

    whole = digests(tmp_path / "whole.jsonl")
    assert [outcome.index for outcome in whole] == list(range(6))

    journal = tmp_path / "killed.jsonl"
    lines = (tmp_path / "whole.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    journal.write_text("".join(lines[:4]) + lines[4][:40], encoding="utf-8")
    made = []
    original = Digester.digest_batch

    def counted(self, documents, indices, **options):
        made.append([documents[index].document_id for index in indices])
        return original(self, documents, indices, **options)

    monkeypatch.setattr(Digester, "digest_batch", counted)
    resumed = digests(journal)
    assert [sorted(batch) for batch in made] == [["4", "5"]]

    def untimed(outcome):
        return replace(outcome, seconds=0.0, digest=outcome.digest.model_copy(update={"processing_time": 0.0}))

    assert [untimed(outcome) for outcome in resumed] == [untimed(outcome) for outcome in whole]
    assert digests(journal) == resumed
    assert len(made) == 1


def document(language="en"):
    return CorpusDocument("0", f"https://x.example/{language}", language, None, "text")


def outcome(summary, index=0):
    made = Digest(
        summary=summary,
        keywords=[],
        difficulty_level=Difficulty.of(2.0),
        prerequisites=[],
        technical_terms=[],
        processing_time=0.1,
    )
    return DigestOutcome(index, made, {}, 1.0, 5, 0.1)


FAILED = DigestOutcome(1, None, None, 0.0, 0, 0.1, error="The document's content is blank")


def test_digests_are_valid_or_named_by_line():
    good = json.dumps({"url": "u", "digest": outcome("A.").digest.model_dump(mode="json")})
    assert check_digests_are_valid([good, good]).passed
    found = check_digests_are_valid([good, good.replace('"elementary"', '"expert"'), "{}"])
    assert not found.passed
    assert found.message.startswith("1 of 3")
    assert found.metadata["problems"][0].startswith("line 2:")


def tally(*pairs):
    counted = DigestTally()
    for of_document, its_outcome in pairs:
        counted.add(of_document, its_outcome)
    return counted


def test_every_document_has_a_digest_or_the_failed_ones_are_named():
    assert check_documents_have_digests(1, tally((document(), outcome("A.")))).passed
    found = check_documents_have_digests(2, tally((document(), outcome("A.")), (document("ko"), FAILED)))
    assert not found.passed
    assert "2 documents in, 1 digests out, 1 failed" in found.message
    assert "https://x.example/ko: The document's content is blank" in found.metadata["failed"]


def test_a_document_that_was_lost_on_the_way_is_missed():
    assert not check_documents_have_digests(2, tally((document(), outcome("A.")))).passed


def test_summaries_in_another_language_than_their_document_are_counted():
    english = (document("en"), outcome("Pods run."))
    korean = (document("ko"), outcome("파드는 Kubernetes에서 실행된다.", 1))
    assert check_summary_language(tally(english, korean)).passed
    found = check_summary_language(tally(english, (document("ko"), outcome("Pods run.", 1))))
    assert not found.passed
    assert found.metadata["share"] == 0.5


def test_files_hold_the_documents_that_have_a_digest_in_order_over_row_groups(tmp_path, monkeypatch):
    import pyarrow.parquet as pq

    monkeypatch.setattr("smartdevdigest_ops.digesting.outputs._ROW_GROUP_ROWS", 2)
    with DigestFiles(tmp_path) as files:
        for number in range(5):
            files.write(document(), outcome(f"Summary {number}.", number))
        files.write(document("ko"), FAILED)
    table = pq.ParquetFile(tmp_path / "digests.parquet")
    summaries = [f"Summary {number}." for number in range(5)]
    assert table.num_row_groups == 3
    assert table.read(columns=["summary"])["summary"].to_pylist() == summaries
    lines = (tmp_path / "digests.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["digest"]["summary"] for line in lines] == summaries
    assert files.tally.metrics()["num_documents"] == 6
