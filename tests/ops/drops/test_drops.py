"""Reading drops: formats, single bad records, damaged files, registration."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
import zstandard

from smartdevdigest_ops.artifacts import ArtifactStore
from smartdevdigest_ops.contracts import CrawlRecord
from smartdevdigest_ops.drops import files as drops_module
from smartdevdigest_ops.drops.files import CrawlError, drop_path, list_drops, read_drop, read_entries, register_drop
from smartdevdigest_ops.drops.records import Reject
from smartdevdigest_ops.settings import Settings


def record(number: int = 1, **changes: Any) -> dict[str, Any]:
    return {
        "source_type": "blog",
        "url": f"https://a.example/{number}",
        "language": "ko",
        "title": "제목",
        "content": f"본문 {number}",
    } | changes


def lines(*records: Any) -> bytes:
    return b"".join(json.dumps(r, ensure_ascii=False).encode() + b"\n" for r in records)


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def reasons(path: Path) -> list[tuple[int, str]]:
    return [(number, entry.reason) for number, entry in read_drop(path) if isinstance(entry, Reject)]


def one_reason(path: Path, data: bytes) -> str:
    found = reasons(write(path, data + b"\n" + lines(record())))
    assert len(found) == 1
    return found[0][1]


def write_parquet(path: Path, rows: list[dict[str, Any]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = dict.fromkeys(name for row in rows for name in row)
    pq.write_table(pa.Table.from_pylist([{name: row.get(name) for name in names} for row in rows]), path)


@pytest.mark.parametrize("suffix", [".jsonl", ".ndjson", ".jsonl.gz", ".jsonl.zst", ".json", ".json.gz", ".parquet"])
def test_every_format_gives_the_same_records_with_their_numbers(tmp_path: Path, suffix: str) -> None:
    records = [record(1), record(2, views=7, tags=["k8s"], author="김")]
    path = tmp_path / f"2026-10-05_a{suffix}"
    text = lines(*records) if "jsonl" in suffix or "ndjson" in suffix else json.dumps(records).encode()
    if suffix == ".parquet":
        write_parquet(path, records)
    elif suffix.endswith(".gz"):
        write(path, gzip.compress(text))
    elif suffix.endswith(".zst"):
        write(path, zstandard.ZstdCompressor().compress(text))
    else:
        write(path, text)
    assert list(read_drop(path)) == [(n, CrawlRecord.model_validate(r)) for n, r in enumerate(records, 1)]


def test_a_byte_order_mark_does_not_spoil_the_first_record(tmp_path: Path) -> None:
    assert reasons(write(tmp_path / "a.jsonl", b"\xef\xbb\xbf" + lines(record()))) == []
    assert reasons(write(tmp_path / "a.json", b"\xef\xbb\xbf \n" + json.dumps([record()]).encode())) == []


def test_invalid_utf8_rejects_its_own_line_alone(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", lines(record(1)) + b'{"url": "\xff\xfe"}\n' + lines(record(3)))
    assert reasons(path) == [(2, "not UTF-8: invalid start byte")]
    assert [number for number, _ in read_drop(path)] == [1, 2, 3]


def test_blank_lines_are_told_apart_and_windows_newlines_are_no_fault(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", lines(record(1)).replace(b"\n", b"\r\n") + b"\r\n  \n" + lines(record(4)))
    assert [number for number, _ in read_drop(path)] == [1, 4]
    assert [number for number, _ in read_entries(path)] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"content": "  "}, "content: must not be blank"),
        ({"content": None}, "content: must be text, found null"),
        ({"language": "fr"}, "language: must be 'ko' or 'en', found 'fr'"),
        ({"language": None}, "language: must be 'ko' or 'en', found null"),
        ({"url": "a.example/1"}, "url: must be an absolute http(s) URL"),
        ({"views": -1}, "views: must be at least 0"),
        ({"views": "7"}, "views: must be a whole number, found '7'"),
        ({"views": 2**63}, "views: must be below 2^63"),
        ({"tags": ["a", 1]}, "tags: must be text, found a number"),
        ({"source_type": "x", "title": 3}, "source_type: must be 'blog', 'paper' or 'news', found 'x'; "),
    ],
)
def test_a_reason_names_the_field_and_what_it_must_be(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    assert one_reason(tmp_path / "a.jsonl", json.dumps(record(**changes)).encode()).startswith(reason)


def test_a_missing_field_is_named(tmp_path: Path) -> None:
    fields = record()
    del fields["content"]
    assert one_reason(tmp_path / "a.jsonl", json.dumps(fields).encode()) == "content: is missing"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b'{"url": "https://a.example", "url": "https://b.example"}', "not JSON: the key 'url' occurs twice"),
        (b'{"views": NaN}', "not JSON: NaN is no JSON number"),
        (b"[" * 100_000, "not JSON: nested too deep"),
        (b'{"views": ' + b"9" * 5000 + b"}", "not JSON: Exceeds the limit"),
        (b'{"url": ', "not JSON: Expecting value"),
        (b"[1]", "must be a JSON object, found a list"),
        (b"null", "must be a JSON object, found null"),
        (json.dumps(record(content="\ud800")).encode(), "content: holds half a surrogate pair"),
        (json.dumps(record(title="\ud800")).encode(), "title: holds half a surrogate pair"),
        (json.dumps(record(tags=["x", "\ud800"])).encode(), "tags: holds half a surrogate pair"),
    ],
)
def test_hostile_lines_are_rejected_alone(tmp_path: Path, data: bytes, reason: str) -> None:
    assert one_reason(tmp_path / "a.jsonl", data).startswith(reason)


def test_a_line_beyond_the_limit_is_rejected_without_being_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drops_module, "MAX_RECORD_BYTES", 2000)
    long = json.dumps(record(content="x" * 3_000_000)).encode()
    path = write(tmp_path / "a.jsonl", long + b"\n" + lines(record(2)) + long)
    entries = list(read_drop(path))
    assert [number for number, _ in entries] == [1, 2, 3]
    assert [isinstance(entry, Reject) for _, entry in entries] == [True, False, True]
    assert all(len(entry.excerpt) <= 200 for _, entry in entries if isinstance(entry, Reject))


def test_a_bad_array_element_is_rejected_alone_by_its_index(tmp_path: Path) -> None:
    odd = json.dumps(record(2, content='a "quoted" ], } and a \\ backslash'))
    path = write(tmp_path / "a.json", f'[{json.dumps(record(1))}, {{"views": nan}}, {odd}, 5]'.encode())
    assert reasons(path) == [(2, "not JSON: Expecting value"), (4, "must be a JSON object, found a number")]


@pytest.mark.parametrize("piece_bytes", [1, 2, 3, 7])
def test_an_array_reads_the_same_wherever_the_pieces_are_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece_bytes: int
) -> None:
    from smartdevdigest_ops.drops import json_stream

    records = [record(1, content='say "hi\\" \\'), record(2, extra_key={"a": [1, {"b": "]"}]})]
    path = write(tmp_path / "a.json", json.dumps(records, indent=1).encode())
    expected = list(read_drop(path))
    monkeypatch.setattr(json_stream, "_READ_BYTES", piece_bytes)
    assert list(read_drop(path)) == expected
    assert len(expected) == 2


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b'{"url": 1}', "begins with one JSON object"),
        (b'[{"a": 1}, {"a"', "no end: it is cut off in or after element 2"),
        (b"[] []", "after the array's end"),
        (b"", "it is empty"),
    ],
)
def test_what_is_no_whole_array_fails_the_drop(tmp_path: Path, data: bytes, message: str) -> None:
    with pytest.raises(CrawlError, match=message):
        list(read_drop(write(tmp_path / "a.json", data)))


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_a_truncated_file_fails_instead_of_giving_its_first_half(tmp_path: Path, suffix: str) -> None:
    text = lines(*(record(n, content=f"{n * 7919 % 1009} " * 40) for n in range(2000)))
    whole = gzip.compress(text) if suffix == ".gz" else zstandard.ZstdCompressor().compress(text)
    path = write(tmp_path / f"a.jsonl{suffix}", whole[: len(whole) // 2])
    with pytest.raises(CrawlError, match="damaged or cut off"):
        list(read_drop(path))


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl.zst", "a.parquet"])
def test_a_file_that_is_not_what_its_name_says_fails_with_one_message(tmp_path: Path, name: str) -> None:
    with pytest.raises(CrawlError, match=name):
        list(read_drop(write(tmp_path / name, lines(record()))))


def test_parquet_dates_and_float_counts_are_read_as_their_writers_meant(tmp_path: Path) -> None:
    from datetime import date

    path = tmp_path / "a.parquet"
    write_parquet(path, [record(1, publish_date=date(2026, 10, 5), views=3.0), record(2, views=float("nan"))])
    (_, first), (_, second) = read_drop(path)
    assert isinstance(first, CrawlRecord)
    assert isinstance(second, CrawlRecord)
    assert (first.publish_date, first.views, second.views) == ("2026-10-05", 3, None)


def test_the_same_content_under_another_name_is_the_same_drop(tmp_path: Path, ci_settings: Settings, run: Any) -> None:
    store = ArtifactStore(ci_settings.store_dir)
    first = write(tmp_path / "2026-10-05_a.jsonl", lines(record()))
    copy = write(tmp_path / "2026-10-06_copy.jsonl", lines(record()))
    key = register_drop(store, first)
    run("raw_crawl", ci_settings, key)
    assert register_drop(store, copy) == key
    assert drop_path(store, key) == first
    first.unlink()
    register_drop(store, copy)
    assert drop_path(store, key) == copy


def test_a_drop_refused_for_its_name_is_taken_in_under_the_right_one(
    tmp_path: Path, ci_settings: Settings, run: Any
) -> None:
    store = ArtifactStore(ci_settings.store_dir)
    key = register_drop(store, write(tmp_path / "misnamed.jsonl.gz", lines(record())))
    with pytest.raises(CrawlError, match="misnamed"):
        run("raw_crawl", ci_settings, key)
    assert register_drop(store, write(tmp_path / "right.jsonl", lines(record()))) == key
    assert run("raw_crawl", ci_settings, key).metrics["num_records"] == 1


def test_a_drop_that_is_unknown_gone_or_changed_is_refused_with_what_to_do(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path / "store")
    path = write(tmp_path / "a.jsonl", lines(record()))
    key = register_drop(store, path)
    with pytest.raises(CrawlError, match="no drop 'nothere'"):
        drop_path(store, "nothere")
    write(path, lines(record(), record()))
    with pytest.raises(CrawlError, match="never changes"):
        drop_path(store, key)
    path.unlink()
    with pytest.raises(CrawlError, match="is gone"):
        drop_path(store, key)
    with pytest.raises(CrawlError, match="is no file"):
        register_drop(store, path)
    with pytest.raises(CrawlError, match="told by its name"):
        register_drop(store, write(tmp_path / "a.csv", b"x"))


def test_drops_are_listed_from_a_file_a_directory_or_a_glob_by_name(tmp_path: Path) -> None:
    for name in ("b.jsonl.gz", "a.parquet", "c.txt", ".d.jsonl", "e.jsonl.part"):
        write(tmp_path / name, b"")
    expected = [tmp_path / "a.parquet", tmp_path / "b.jsonl.gz"]
    assert list_drops(str(tmp_path)) == expected
    assert list_drops(f"{tmp_path}/*") == expected
    assert list_drops(str(tmp_path / "a.parquet")) == expected[:1]
    assert list_drops(str(tmp_path / "nothing" / "*")) == []
