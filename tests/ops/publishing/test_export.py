import json
import shutil

import pytest
from corpus_samples import publish

from smartdevdigest_ops.artifacts import Artifact, ArtifactError, ArtifactStore, Making
from smartdevdigest_ops.publishing.export import CARD_FILE, ExportError, export_model
from smartdevdigest_ops.publishing.facts import gather_facts
from smartdevdigest_ops.release.pointer import ReleaseError


def record(store, asset, fill, inputs=None, metrics=None, notes=None, settings=None):
    with store.staging(asset) as out:
        fill(out)
        artifact = store.publish(out, asset)
    making = Making(
        asset, None, artifact.version, artifact.version, inputs or {}, settings or {}, "1", {}, {}, metrics or {}, [],
        notes or {},
    )  # fmt: skip
    store.record(making)
    return artifact.version


def rows(out, languages):
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = [{"url": f"https://{language}.example/{n}", "language": language} for n, language in enumerate(languages)]
    pq.write_table(pa.Table.from_pylist(table), out / "train.parquet")


@pytest.fixture
def store(tmp_path, tiny_base_model):
    """A release, and the records of all that its model was made from."""
    opened = ArtifactStore(tmp_path / "store")
    base = record(
        opened, "base_model", lambda out: (out / "source.json").write_text("{}"),
        metrics={"num_parameters": 1000}, notes={"base_model": "tiny-random-llama", "revision": "1", "license": "mit"},
    )  # fmt: skip
    tokenizer = record(opened, "domain_tokenizer", lambda out: (out / "t.json").write_text("{}"))
    corpus = record(opened, "corpus_snapshot", lambda out: rows(out, ["ko", "en", "en"]))
    pairs = record(opened, "labeled_pairs", lambda out: rows(out, ["ko", "en"]))
    m1 = record(
        opened, "m1_checkpoint", lambda out: (out / "w").write_text("1"),
        inputs={"base_model": base, "domain_tokenizer": tokenizer, "corpus_snapshot": corpus},
        settings={"training.m1": {"max_steps": 3, "new_rows": {"passes": 1}}},
    )  # fmt: skip
    m2 = record(opened, "m2_adapter", lambda out: (out / "w").write_text("2"), inputs={"labeled_pairs": pairs})

    def model(out):
        shutil.copytree(tiny_base_model, out, dirs_exist_ok=True)
        (out / "digest_config.json").write_text('{"max_length": 512}', encoding="utf-8")

    inputs = {"m1_checkpoint": m1, "m2_adapter": m2, "labeled_pairs": pairs, "corpus_snapshot": corpus}
    quantized = record(opened, "quantized_model", model, inputs=inputs, metrics={"bytes": 1e6})
    release = {"quantized_model": quantized, "evaluation_report": "gone"}
    publish(opened, "release", lambda out: (out / "release.json").write_text(json.dumps(release)))
    return opened


def test_an_export_is_the_released_model_with_a_card_beside_it(store, tmp_path):
    from transformers import AutoModelForCausalLM

    target = export_model(store, tmp_path / "out" / "digest-tiny")
    card = (target / CARD_FILE).read_text(encoding="utf-8")
    assert card.startswith("---\n")
    assert "# digest-tiny" in card
    assert "2 documents in en, 1 documents in ko for domain adaptation (M1), 2 labelled documents" in card
    assert "| en.example | en | 2 |" in card
    assert "training.m1.new_rows.passes: 1" in card
    assert "Not evaluated." in card
    assert str(tmp_path) not in card
    assert not (target / "manifest.json").exists()
    assert AutoModelForCausalLM.from_pretrained(target).num_parameters() > 0
    assert [path.name for path in target.parent.iterdir()] == ["digest-tiny"]


def test_of_two_corpora_the_card_names_the_one_behind_the_snapshot_that_m1_learned_from(store, tmp_path):
    corpora = [
        record(store, "cleaned_corpus", lambda out, n=n: (out / "drops.json").write_text(str(n))) for n in range(2)
    ]
    for number, learned in enumerate(corpora):  # whichever sorts last by its hash
        inputs = {name: store.current(name).version for name in ("base_model", "domain_tokenizer")}
        other = corpora[1 - number]
        inputs["corpus_snapshot"] = _again(store, "corpus_snapshot", ["ko"] * (4 + number), {"cleaned_corpus": learned})
        pairs = _again(store, "labeled_pairs", ["en"] * (4 + number), {"cleaned_corpus": other})
        m1 = record(store, "m1_checkpoint", lambda out, n=number: (out / "w").write_text(f"again {n}"), inputs=inputs)
        m2 = record(
            store, "m2_adapter", lambda out, n=number: (out / "w").write_text(f"again {n}"),
            inputs={"labeled_pairs": pairs, "m1_checkpoint": m1},
        )  # fmt: skip
        made_from = {"m2_adapter": m2, "m1_checkpoint": m1, "labeled_pairs": pairs}

        def model(out, number=number):
            (out / "digest_config.json").write_text(f'{{"max_length": {512 + number}}}', encoding="utf-8")

        quantized = record(store, "quantized_model", model, inputs=made_from, metrics={"bytes": 1e6})
        facts = gather_facts(store, store.open("quantized_model", quantized))
        assert facts.ancestors["cleaned_corpus"] == learned
        assert facts.ancestors["corpus_snapshot"] == inputs["corpus_snapshot"]
        assert facts.num_documents == {"ko": 4 + number}


def _again(store, asset, languages, inputs):
    return record(store, asset, lambda out: rows(out, languages), inputs=inputs)


def test_a_release_that_changes_meanwhile_leaves_model_and_card_those_of_one_release(store, tmp_path, monkeypatch):
    of_first = store.current("quantized_model").version
    read_every_byte = Artifact.refuse_damage

    def release_another(model):
        read_every_byte(model)
        report = publish(store, "evaluation_report", lambda out: (out / "report.json").write_text("no report at all"))
        release = {"quantized_model": "another", "evaluation_report": report}
        publish(store, "release", lambda out: (out / "release.json").write_text(json.dumps(release)))

    monkeypatch.setattr(Artifact, "refuse_damage", release_another)
    target = export_model(store, tmp_path / "out")
    assert "Not evaluated." in (target / CARD_FILE).read_text(encoding="utf-8")
    first = store.open("quantized_model", of_first).path
    assert (target / "config.json").read_bytes() == (first / "config.json").read_bytes()


def test_a_directory_that_holds_something_is_left_alone(store, tmp_path):
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(ExportError, match="is not an empty directory"):
        export_model(store, tmp_path)
    assert (tmp_path / "mine.txt").read_text() == "x"


def test_a_damaged_model_is_not_exported_and_leaves_nothing_behind(store, tmp_path):
    weights = next(store.current("quantized_model").path.glob("*.safetensors"))
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(ArtifactError, match="content differs"):
        export_model(store, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_model_whose_record_is_gone_has_no_card(store, tmp_path):
    shutil.rmtree(store.root / "m1_checkpoint" / "makings")
    with pytest.raises(ArtifactError, match=r"no record says how the .*m1_checkpoint"):
        export_model(store, tmp_path / "out")


def test_without_a_release_there_is_nothing_to_export(tmp_path):
    with pytest.raises(ReleaseError, match="no release"):
        export_model(ArtifactStore(tmp_path / "empty"), tmp_path / "out")
