import shutil
from pathlib import Path

import pytest
from corpus_samples import Corpus, record, text
from lineage_samples import Chain, page_id

from smartdevdigest_ops.artifacts import content_hash
from smartdevdigest_ops.lineage.impact import Impact, find_impact, impact_markdown, name_of
from smartdevdigest_ops.lineage.uses import HOLDERS, USES
from smartdevdigest_ops.stage import STAGE_MODULES, get_stage


def told(impacts: list[Impact]) -> dict[str, str]:
    return {impact.asset: str(impact).partition(": ")[2] for impact in impacts}


def test_every_use_of_a_training_page_is_named_with_how_and_through_what(chain: Chain, graph) -> None:
    tokenizer, m1 = graph["domain_tokenizer"].version, graph["m1_checkpoint"].version
    assert told(find_impact(chain.store, [page_id("c")])) == {
        "corpus_snapshot": "frozen (1, split train)",
        "domain_tokenizer": "trained on 1",
        "m1_checkpoint": f"trained on 1; made from what learned from them: domain_tokenizer@{tokenizer}",
        "m2_adapter": f"made from what learned from them: m1_checkpoint@{m1}",
        "quantized_model": "made from what learned from them: "
        f"m1_checkpoint@{m1}, m2_adapter@{graph['m2_adapter'].version}",
        "evaluation_report": f"made from what learned from them: quantized_model@{graph['quantized_model'].version}",
    }


def test_a_page_that_was_only_evaluated_on_was_learned_by_nobody(chain: Chain, graph) -> None:
    impacts = find_impact(chain.store, [page_id("t")])
    assert told(impacts) == {
        "corpus_snapshot": "frozen (1, split test)",
        "labeled_pairs": "labeled (1, split test)",
        "domain_tokenizer": "evaluated on 1",
        "evaluation_report": "perhaps evaluated on 1",
    }
    assert not any(impact.has_learned for impact in impacts)


def test_what_a_stage_reports_of_its_drawn_documents_is_exact(chain: Chain, graph) -> None:
    calibrated = {
        name: told(find_impact(chain.store, [page_id(name)]))["quantized_model"].partition(";")[0]
        for name in ("a", "b", "v")
    }
    assert "calibrated" not in calibrated["a"]
    assert calibrated["b"] == "calibrated on 1"
    assert calibrated["v"] == "calibrated on 1"


def test_several_pages_are_counted_and_a_stranger_is_in_nothing(chain: Chain, graph) -> None:
    impacts = find_impact(chain.store, [page_id(name) for name in ("a", "c", "t", "nowhere")])
    assert told(impacts)["corpus_snapshot"] == "frozen (1, split test); frozen (2, split train)"
    assert find_impact(chain.store, [page_id("nowhere")]) == []


def test_an_older_version_is_named_and_is_not_current(chain: Chain, graph) -> None:
    newer = chain.snapshot(train=["b"], valid=["v"], test=["t"])
    found = {impact.version: impact for impact in find_impact(chain.store, [page_id("b")])}
    assert found[newer.version].is_current
    assert not found[graph["corpus_snapshot"].version].is_current
    markdown = impact_markdown(1, found.values())
    assert newer.version in markdown
    assert graph["corpus_snapshot"].version not in markdown


@pytest.mark.parametrize("lost", ["entry", "damaged entry", "file and no entry", "file"])
def test_the_answer_does_not_depend_on_what_is_left_of_index_and_files(chain: Chain, graph, lost: str) -> None:
    before = told(find_impact(chain.store, [page_id("a")]))
    cache = chain.store.root / ".cache" / "lineage"
    train = graph["corpus_snapshot"].path / "train.parquet"
    if lost == "entry":
        shutil.rmtree(cache)
    elif lost == "damaged entry":
        for entry in cache.iterdir():
            data = bytearray(entry.read_bytes())
            data[-1] ^= 1
            entry.write_bytes(data)
    else:
        train.write_bytes(b"PAR1")
        if lost == "file and no entry":
            shutil.rmtree(cache)
    after = told(find_impact(chain.store, [page_id("a")]))
    if lost == "file and no entry":  # nobody knows any more, and nothing is called free of the page
        assert after["corpus_snapshot"] == "is gone or damaged and may have held them"
        assert after["m1_checkpoint"].startswith("perhaps trained on 1")
        assert after.keys() == before.keys()
    else:
        assert after == before


def test_a_drop_is_followed_to_its_digests(tmp_path: Path, run) -> None:
    corpus = Corpus(tmp_path, run)
    key = corpus.drop("1.jsonl", *(record(str(n), text(n)) for n in range(40)), record("short", "Too short."))
    corpus.make("cleaned_corpus")
    impacts = find_impact(corpus.store, [content_hash("https://a.example/7")])
    assert [name_of((i.asset, i.partition, i.version)).partition("@")[0] for i in impacts] == [
        f"raw_crawl[{key}]",
        f"cleaned_documents[{key}]",
        "cleaned_corpus",
    ]
    assert list(told(impacts).values()) == ["taken in (1)", "cleaned (1)", "kept (1)"]
    dropped = find_impact(corpus.store, [content_hash("https://a.example/short")])
    assert [impact.asset for impact in dropped] == ["raw_crawl"]


def test_the_registry_names_every_stage_after_its_inputs() -> None:
    names = list(STAGE_MODULES)
    assert all(names.index(upstream) < names.index(name) for name in names for upstream in get_stage(name).inputs)


def test_every_stage_that_reads_documents_says_how_it_uses_them() -> None:
    split = {"corpus_snapshot", "labeled_pairs"}
    readers = {name for name in STAGE_MODULES if split.intersection(get_stage(name).inputs)} - HOLDERS.keys()
    assert readers == USES.keys()
    for name, uses in USES.items():
        assert {use.input for use in uses} == split.intersection(get_stage(name).inputs)
