import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from smartdevdigest_ops.contracts import CrawlRecord
from smartdevdigest_ops.corpus.read import CorpusError
from smartdevdigest_ops.training import encoding
from smartdevdigest_ops.training import segments as segments_module
from smartdevdigest_ops.training.bits_per_byte import encode_documents
from smartdevdigest_ops.training.encoding import EncodedCorpus, encode_corpus, parquet_texts
from smartdevdigest_ops.training.errors import TrainingError


@pytest.fixture(scope="module")
def tokenizer(tiny_base_model: Path):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_base_model)


@pytest.fixture
def texts(sample_documents: list[CrawlRecord]) -> list[str]:
    return ["", "Ends with <|im_end|> quoted.\n", *(record.content for record in sample_documents[:20]), ""]


def as_lists(encoded: EncodedCorpus) -> list[list[int]]:
    return [encoded.token_ids(index).tolist() for index in range(len(encoded))]


def segments(cache: Path) -> dict[Path, int]:
    """Segment -> time of its last change."""
    return {file.parent: file.stat().st_mtime_ns for file in cache.glob("*/*/token_ids.i32")}


def num_cached(cache: Path) -> list[int]:
    import numpy as np

    return [len(np.load(segment / "documents.npy")) for segment in segments(cache)]


def test_token_ids_are_those_of_encode_documents_with_quoted_special_tokens_as_characters(
    tokenizer, texts: list[str], tmp_path: Path
):
    encoded = encode_corpus(tokenizer, iter(texts), cache_dir=tmp_path)
    expected = encode_documents(tokenizer, texts)
    assert as_lists(encoded) == expected
    assert tokenizer.convert_tokens_to_ids("<|im_end|>") not in encoded.token_ids(1)
    assert encoded.lengths_N.tolist() == [len(ids) for ids in expected]
    assert encoded.num_tokens == sum(map(len, expected))
    assert encoded.num_bytes == sum(len(text.encode()) for text in texts)
    assert encoded.token_ids(2).dtype.name == "int32"


def test_many_batches_and_segments_give_the_same_ids(
    tokenizer, texts: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(encoding, "_CHARACTERS_PER_BATCH", 2000)
    monkeypatch.setattr(segments_module, "_TOKENS_PER_SEGMENT", 5000)
    assert as_lists(encode_corpus(tokenizer, texts, cache_dir=tmp_path)) == encode_documents(tokenizer, texts)
    assert len(segments(tmp_path)) > 2
    backwards = encode_corpus(tokenizer, texts[::-1], cache_dir=tmp_path)
    assert as_lists(backwards) == encode_documents(tokenizer, texts[::-1])


def test_what_is_cached_is_not_tokenized_again_and_a_grown_corpus_costs_its_new_documents(
    tokenizer, texts: list[str], tmp_path: Path
):
    encode_corpus(tokenizer, texts, cache_dir=tmp_path)
    before = segments(tmp_path)
    again = encode_corpus(tokenizer, texts, cache_dir=tmp_path)
    assert segments(tmp_path) == before
    assert as_lists(again) == encode_documents(tokenizer, texts)
    grown = ["first and new", *texts, "last and new"]
    assert as_lists(encode_corpus(tokenizer, grown, cache_dir=tmp_path)) == encode_documents(tokenizer, grown)
    assert before.items() <= segments(tmp_path).items()
    assert sorted(num_cached(tmp_path)) == [2, len(set(texts))]


@pytest.mark.parametrize("name", ["token_ids.i32", "documents.npy", "sums.json"])
@pytest.mark.parametrize("damage", ["flipped", "cut", "missing"])
def test_a_damaged_segment_is_found_and_made_again(tokenizer, texts: list[str], tmp_path: Path, name: str, damage: str):
    encode_corpus(tokenizer, texts, cache_dir=tmp_path)
    [segment] = segments(tmp_path)
    file = segment / name
    content = file.read_bytes()
    if damage == "missing":
        file.unlink()
    else:
        file.write_bytes(content[:-10] if damage == "cut" else content[:-10] + b"\0\1" + content[-8:])
    lines: list[str] = []
    assert as_lists(encode_corpus(tokenizer, texts, cache_dir=tmp_path, log=lines.append)) == encode_documents(
        tokenizer, texts
    )
    assert any(str(segment) in line and "damaged" in line for line in lines)
    assert file.read_bytes() == content


def test_a_run_that_ends_halfway_keeps_its_whole_segments_and_leaves_nothing_half_written(
    tokenizer, texts: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(encoding, "_CHARACTERS_PER_BATCH", 2000)
    monkeypatch.setattr(segments_module, "_TOKENS_PER_SEGMENT", 5000)

    def broken() -> Iterator[str]:
        yield from texts[:15]
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        encode_corpus(tokenizer, broken(), cache_dir=tmp_path)
    kept = segments(tmp_path)
    assert kept
    assert as_lists(encode_corpus(tokenizer, texts, cache_dir=tmp_path)) == encode_documents(tokenizer, texts)
    assert kept.items() <= segments(tmp_path).items()
    assert not list(tmp_path.glob("*/.*"))


def test_two_at_a_time_tokenize_every_document_once(tokenizer, texts: list[str], tmp_path: Path):
    with ThreadPoolExecutor(2) as threads:
        both = list(threads.map(lambda _: encode_corpus(tokenizer, texts, cache_dir=tmp_path), range(2)))
    assert as_lists(both[0]) == as_lists(both[1]) == encode_documents(tokenizer, texts)
    assert num_cached(tmp_path) == [len(set(texts))]


def test_each_tokenizer_has_its_own_cache_and_the_oldest_ones_go(
    tokenizer, texts: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from transformers import PreTrainedTokenizerFast

    monkeypatch.setattr(encoding, "_TOKENIZERS_KEPT", 1)
    encode_corpus(tokenizer, texts, cache_dir=tmp_path)
    [first] = {segment.parent for segment in segments(tmp_path)}
    os.utime(first, (0, 0))
    other = PreTrainedTokenizerFast.from_pretrained(tokenizer.name_or_path)
    other.add_tokens(["쿠버네티스"])
    assert as_lists(encode_corpus(other, texts, cache_dir=tmp_path)) == encode_documents(other, texts)
    [second] = {segment.parent for segment in segments(tmp_path)}
    assert second != first
    assert not first.exists()


def test_the_tokenizer_and_the_environment_stay_as_they_were(
    tokenizer, texts: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    tokenizer.backend_tokenizer.enable_truncation(3)
    try:
        encoded = encode_corpus(tokenizer, texts, cache_dir=tmp_path)
        assert tokenizer.backend_tokenizer.truncation["max_length"] == 3
    finally:
        tokenizer.backend_tokenizer.no_truncation()
    assert as_lists(encoded) == encode_documents(tokenizer, texts)
    assert os.environ["TOKENIZERS_PARALLELISM"] == "false"


def test_nothing_and_only_empty_texts_are_corpora_too(tokenizer, tmp_path: Path):
    assert len(encode_corpus(tokenizer, [], cache_dir=tmp_path)) == 0
    empty = encode_corpus(tokenizer, ["", ""], cache_dir=tmp_path)
    assert (as_lists(empty), empty.num_bytes, empty.num_tokens) == ([[], []], 0, 0)


def test_a_slow_tokenizer_is_refused(tmp_path: Path):
    from transformers import ByT5Tokenizer

    with pytest.raises(TrainingError, match=r"ByT5Tokenizer.*needed one with a tokenizer\.json"):
        encode_corpus(ByT5Tokenizer(), ["text"], cache_dir=tmp_path)


def test_texts_come_from_parquet_in_order_and_damage_is_named(
    texts: list[str], tmp_path: Path, write_parquet: Callable[[Path, list[str]], None]
):
    file = tmp_path / "train.parquet"
    write_parquet(file, texts)
    assert list(parquet_texts(file)) == texts
    with pytest.raises(CorpusError, match="column 'text'"):
        list(parquet_texts(file, "text"))
    shutil.copyfile(__file__, file)
    with pytest.raises(CorpusError, match=r"train\.parquet is no readable Parquet file"):
        list(parquet_texts(file))


@pytest.fixture
def write_parquet() -> Callable[[Path, list[str]], None]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    return lambda path, texts: pq.write_table(pa.table({"content": texts}), path, row_group_size=7)
