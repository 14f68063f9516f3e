import io
import json
import re
import shutil

import pytest

from smartdevdigest_ops.contracts import Digest
from smartdevdigest_ops.digesting.errors import DigestingError
from smartdevdigest_ops.digesting.files import digest_file
from smartdevdigest_ops.digesting.model import write_digest_config
from smartdevdigest_ops.settings import load_settings


@pytest.fixture(scope="module")
def model_dir(tiny_base_model, tmp_path_factory):
    directory = tmp_path_factory.mktemp("model") / "model"
    shutil.copytree(tiny_base_model, directory)
    write_digest_config(directory, load_settings("ci"))
    return directory


@pytest.fixture
def lines(sample_documents):
    return [json.dumps(d.model_dump(exclude={"extra"}), ensure_ascii=False) for d in sample_documents[:3]]


def digests(source, model_dir, settings, stdin=None):
    out = io.StringIO()
    counts = digest_file(source, model_dir, settings, out, stdin=io.BytesIO(stdin) if stdin is not None else None)
    return [Digest.model_validate_json(line) for line in out.getvalue().splitlines()], counts


def test_each_line_of_a_file_becomes_a_digest(model_dir, ci_settings, lines, tmp_path):
    source = tmp_path / "documents.jsonl"
    source.write_text("\n".join(lines), encoding="utf-8")
    made, counts = digests(source, model_dir, ci_settings)
    assert len(made) == 3
    assert counts == {"digests": 3}


def test_a_document_that_is_read_in_part_is_named_with_the_share_that_was_read(model_dir, ci_settings, lines, capsys):
    short = json.loads(lines[0]) | {"content": "A pod runs."}
    long = short | {"content": "A pod runs on a node that has room for it.\n\n" * 400}
    text = f"{json.dumps(short)}\n{json.dumps(long)}"
    made, counts = digests(None, model_dir, ci_settings, text.encode())
    assert (len(made), counts) == (2, {"digests": 2})
    shown = capsys.readouterr().err
    assert re.search(r"standard input, record 2: the digest covers [1-9]\d? % of it", shown)
    assert "record 1:" not in shown
    out = io.StringIO()
    digest_file(None, model_dir, ci_settings, out, with_urls=True, stdin=io.BytesIO(text.encode()))
    shares = [json.loads(line)["covered_share"] for line in out.getvalue().splitlines()]
    assert shares[0] == 1.0
    assert 0 < shares[1] < 1


def test_bad_lines_are_named_and_the_others_digested(model_dir, ci_settings, lines, capsys):
    text = "\n".join([lines[0], "{not json", "", lines[1], '{"url": "https://x.example/a"}'])
    made, counts = digests(None, model_dir, ci_settings, text.encode())
    assert len(made) == 2
    assert counts == {"digests": 2, "records refused": 2}
    shown = capsys.readouterr().err
    assert "standard input, record 2: not JSON" in shown
    assert "standard input, record 5:" in shown


@pytest.mark.parametrize("name", ["one.json", "one.txt", None])
def test_one_document_may_be_spread_over_lines(model_dir, ci_settings, lines, tmp_path, name):
    data = json.dumps(json.loads(lines[0]), indent=2, ensure_ascii=False).encode()
    source = None
    if name:
        source = tmp_path / name
        source.write_bytes(data)
    made, counts = digests(source, model_dir, ci_settings, data)
    assert (len(made), counts) == (1, {"digests": 1})


def test_an_array_is_read_as_a_drop(model_dir, ci_settings, lines, tmp_path):
    source = tmp_path / "documents.json"
    source.write_text(f"[{','.join(lines)}]", encoding="utf-8")
    assert len(digests(source, model_dir, ci_settings)[0]) == 3


def test_an_empty_input_is_an_error(model_dir, ci_settings):
    with pytest.raises(DigestingError, match="holds no record"):
        digests(None, model_dir, ci_settings, b"\n \n")
