from pathlib import Path

import pytest
from lineage_samples import Chain, page

from smartdevdigest_ops.cli import main
from smartdevdigest_ops.lineage.ancestry import (
    LineageError,
    ancestry_lines,
    document_lines,
    find_ancestry,
    find_version,
)


def test_an_artifact_is_found_by_name_version_and_path(chain: Chain, graph) -> None:
    m1 = graph["m1_checkpoint"]
    expected = ("m1_checkpoint", None, m1.version)
    for reference in ("m1_checkpoint", f"m1_checkpoint@{m1.version}", str(m1.path), str(m1.path / "model.txt")):
        assert find_version(chain.store, reference) == expected


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("m3_checkpoint", "There is no asset 'm3_checkpoint'"),
        ("m1_checkpoint@0000000000000000", "was never made"),
        ("m1_checkpoint[drop]", "does not come by drop"),
        ("release", "no current version"),
        ("/nowhere/at/all", "There is no asset"),
    ],
)
def test_what_is_no_artifact_is_refused(chain: Chain, graph, reference: str, said: str) -> None:
    with pytest.raises(LineageError, match=said.replace("[", r"\[")):
        find_version(chain.store, reference)


def test_the_ancestry_holds_every_version_once_and_none_that_is_newer(chain: Chain, graph) -> None:
    chain.snapshot(train=["b"])
    found = find_ancestry(chain.store, find_version(chain.store, "m2_adapter"))
    assert found[0].version[0] == "m2_adapter"
    assert {ancestor.version[0]: ancestor.version[2] for ancestor in found} == {
        name: graph[name].version
        for name in ("m2_adapter", "m1_checkpoint", "domain_tokenizer", "labeled_pairs", "corpus_snapshot")
    }
    assert {ancestor.version[0]: ancestor.state for ancestor in found}["corpus_snapshot"] == "in the store"


def test_versions_settings_and_counts_of_documents_are_told(chain: Chain, graph) -> None:
    told = "\n".join(ancestry_lines(chain.store, find_version(chain.store, "quantized_model")))
    assert f"quantized_model@{graph['quantized_model'].version} (current)" in told
    assert 'settings training.m1={"max_steps": 4}' in told
    assert "calibrated on 2 documents\n" in told
    assert "trained on 3 documents (corpus_snapshot, train)" in told
    assert "evaluated on some of 1 documents (labeled_pairs, valid)" in told
    assert "frozen 5 documents (1 test, 3 train, 1 valid)" in told
    assert f"from labeled_pairs@{graph['labeled_pairs'].version}, m1_checkpoint@" in told


def test_the_documents_are_listed_with_how_they_were_used(chain: Chain, graph) -> None:
    lines = set(document_lines(chain.store, find_version(chain.store, "quantized_model")))
    quantized, m1 = (f"{name}@{graph[name].version}" for name in ("quantized_model", "m1_checkpoint"))
    assert {line for line in lines if quantized in line and "calibrated" in line} == {
        f"calibrated\t{quantized}\t{page('b')}",
        f"calibrated\t{quantized}\t{page('v')}",
    }
    assert {line for line in lines if line.startswith("trained") and m1 in line} == {
        f"trained\t{m1}\t{page(name)}" for name in "abc"
    }
    assert f"perhaps evaluated\t{m1}\t{page('v')}" in lines


def test_lost_documents_are_not_passed_over_in_the_list(chain: Chain, graph) -> None:
    (graph["corpus_snapshot"].path / "train.parquet").unlink()
    with pytest.raises(LineageError, match="which is lost"):
        list(document_lines(chain.store, find_version(chain.store, "m1_checkpoint")))


class TestTheCommand:
    @pytest.fixture(autouse=True)
    def _store(self, chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SMARTDEVDIGEST_STORE", str(chain.store.root))

    def test_of_a_page_names_artifacts_and_says_what_to_do_next(self, graph, capsys) -> None:
        assert main(["lineage", page("a") + "?utm_source=mail"]) == 0
        told = capsys.readouterr()
        assert told.out.startswith("corpus_snapshot@")
        assert "1 pages went into 7 artifacts" in told.err
        assert "data.takedown_path" in told.err

    def test_of_an_artifact_tells_its_ancestry_and_its_documents(self, graph, capsys) -> None:
        assert main(["lineage", "m1_checkpoint"]) == 0
        assert "domain_tokenizer@" in capsys.readouterr().out
        assert main(["lineage", "m1_checkpoint", "--documents"]) == 0
        assert f"\t{page('c')}\n" in capsys.readouterr().out

    @pytest.mark.parametrize(
        ("subjects", "said"),
        [
            ([page("*")], "is a pattern"),
            (["m1_checkpoint", page("a")], "one artifact"),
            (["http://"], "no absolute http"),
            (["page"], "There is no asset 'page'"),
        ],
    )
    def test_refuses_what_it_cannot_answer(self, graph, capsys, subjects: list[str], said: str) -> None:
        assert main(["lineage", *subjects]) == 2
        assert said in capsys.readouterr().err

    def test_refuses_a_store_that_is_not_there(self, tmp_path: Path, monkeypatch, capsys) -> None:
        monkeypatch.setenv("SMARTDEVDIGEST_STORE", str(tmp_path / "none"))
        assert main(["lineage", page("a")]) == 2
        assert "There is no store" in capsys.readouterr().err
