"""GGUF files that packages carry in parts: joined in order, checked, and never without their licence."""

from pathlib import Path

import pytest
from gguf_samples import write_tiny_gguf

from smartdevdigest_ops.artifacts import file_sha256
from smartdevdigest_ops.models.packages import BaseModelError, find_packaged_model, joined_file
from smartdevdigest_ops.models.resolve import resolve_base_model, source_files
from smartdevdigest_ops.models.terms import TermsNotAccepted

NUM_PARTS = 11


@pytest.fixture
def site(tmp_path, monkeypatch) -> Path:
    """A file in eleven parts, in packages `cut_1` to `cut_11`, and its licence in the package `cut`."""
    site = tmp_path / "site"
    whole = tmp_path / "tiny.gguf"
    write_tiny_gguf(whole, pretokenizer="smollm", license_name="gemma")
    data = whole.read_bytes()
    size = len(data) // NUM_PARTS + 1
    for number in range(1, NUM_PARTS + 1):
        folder = site / f"cut_{number}" / "data"
        folder.mkdir(parents=True)
        (folder.parent / "__init__.py").write_text("raise ImportError('must not be imported')")
        (folder / f"tiny.gguf.part{number}").write_bytes(data[(number - 1) * size : number * size])
    (site / "cut" / "data").mkdir(parents=True)
    (site / "cut" / "__init__.py").write_text("")
    (site / "cut" / "data" / "TINY_TERMS.html").write_text("the terms")
    (site / "cut" / "data" / "NOTICE.md").write_text("a notice")
    monkeypatch.syspath_prepend(str(site))
    return site


@pytest.fixture
def reference(site) -> str:
    return f"package:cut*/data/tiny.gguf.part*#sha256={file_sha256(site.parent / 'tiny.gguf')}"


def test_parts_are_joined_in_the_order_of_their_numbers(site, reference, tmp_path):
    model = find_packaged_model(reference)
    assert [part.name for part in model.parts] == [f"tiny.gguf.part{number}" for number in range(1, NUM_PARTS + 1)]
    (tmp_path / "joined").mkdir()
    file = joined_file(model, tmp_path / "joined")
    assert file == tmp_path / "joined" / "tiny.gguf"
    assert file.read_bytes() == (tmp_path / "tiny.gguf").read_bytes()


def test_a_missing_part_is_told_by_the_hash(site, reference, tmp_path):
    (site / "cut_7" / "data" / "tiny.gguf.part7").unlink()
    with pytest.raises(BaseModelError, match=r"part6, tiny\.gguf\.part8.*a part is missing, damaged"):
        joined_file(find_packaged_model(reference), tmp_path)


def test_the_hash_of_a_whole_file_is_checked_where_it_is_stated(site, tmp_path):
    (site / "cut" / "whole.gguf").write_bytes(b"GGUF")
    assert joined_file(find_packaged_model("package:cut/whole.gguf"), tmp_path) == site / "cut" / "whole.gguf"
    with pytest.raises(BaseModelError, match="of another version"):
        joined_file(find_packaged_model(f"package:cut/whole.gguf#sha256={'0' * 64}"), tmp_path)


def test_the_model_and_its_legal_files_come_together_and_no_part_is_left(site, reference, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    source = resolve_base_model(reference, out, seed=1, accept_terms="gemma")
    assert source.revision == file_sha256(tmp_path / "tiny.gguf")
    assert source.license == "gemma"
    assert {"config.json", "model.safetensors", "TINY_TERMS.html", "NOTICE.md"} <= {file.name for file in out.iterdir()}
    assert "Gemma is provided under and subject to the Gemma Terms of Use" in (out / "NOTICE").read_text()
    assert [path for path in out.rglob("*") if path.is_dir() or "gguf" in path.name] == []


def test_every_part_and_legal_file_decides_the_making(site, reference):
    names = [file.name for file in source_files(reference)]
    assert names == [*(f"tiny.gguf.part{n}" for n in range(1, NUM_PARTS + 1)), "NOTICE.md", "TINY_TERMS.html"]


def test_terms_that_only_the_file_states_are_asked_for_before_it_is_converted(site, reference, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(TermsNotAccepted, match="Gemma Terms of Use"):
        resolve_base_model(reference, out, seed=1)
    assert list(out.iterdir()) == []


@pytest.mark.parametrize(
    ("base_model", "message"),
    [
        ("package:cut*/data/tiny.gguf.part*", "Parts need it"),
        ("package:cut*/data/tiny.gguf.part*#sha256=ABC", "64 hex digits"),
        (f"package:cut*/tiny.gguf.part*#sha256={'0' * 64}", r"GGUF files in it: data/tiny\.gguf\.part1, "),
        (f"package:nowhere*/tiny.gguf.part*#sha256={'0' * 64}", r"no package 'nowhere\*' is installed"),
        (f"package:cut*/../../x.gguf*#sha256={'0' * 64}", "carries no"),
        ("package:cut//etc/x.gguf", "expected package:NAME/FILE.gguf"),
    ],
)
def test_a_reference_that_cannot_be_followed_is_refused(site, base_model, message):
    with pytest.raises(BaseModelError, match=message):
        find_packaged_model(base_model)
