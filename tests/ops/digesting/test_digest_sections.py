from smartdevdigest_ops.digesting.sections import cut_at_block, cut_inside_block, has_code, split_blocks

DOCUMENT = """# Title

First paragraph,
two lines.

```python
# not a heading

x = 1
```
After the code.

## Next

Last paragraph."""


def pieces(content: str) -> list[tuple[str, str]]:
    return [(block.kind, content[block.start : block.end].strip()) for block in split_blocks(content)]


def test_blocks_are_headings_paragraphs_and_whole_code_fences():
    assert pieces(DOCUMENT) == [
        ("heading", "# Title"),
        ("paragraph", "First paragraph,\ntwo lines."),
        ("code", "```python\n# not a heading\n\nx = 1\n```"),
        ("paragraph", "After the code."),
        ("heading", "## Next"),
        ("paragraph", "Last paragraph."),
    ]


def test_a_fence_closes_only_with_as_many_of_its_own_character():
    assert pieces("````\n```\n~~~~\n````\ntext") == [("code", "````\n```\n~~~~\n````"), ("paragraph", "text")]


def test_an_unclosed_fence_runs_to_the_end():
    assert pieces("text\n~~~\ncode\n\n# code") == [("paragraph", "text"), ("code", "~~~\ncode\n\n# code")]


def test_inline_backticks_do_not_open_a_fence_and_are_no_code_block():
    content = "```not a fence``` here\n\nuse `ls`"
    assert [kind for kind, _ in pieces(content)] == ["paragraph", "paragraph"]
    assert not has_code(content)
    assert has_code("~~~\nls\n~~~")


def test_a_cut_never_falls_into_a_fence_nor_behind_a_heading():
    for limit in range(len(DOCUMENT) + 1):
        kept = DOCUMENT[: cut_at_block(DOCUMENT, limit)]
        assert len(kept) <= limit
        assert kept.count("```") in (0, 2)
        assert not kept.rstrip().endswith(("# Title", "## Next"))
    assert cut_at_block(DOCUMENT, len(DOCUMENT)) == len(DOCUMENT)


def test_a_long_paragraph_is_cut_behind_its_last_whole_sentence():
    text = "One sentence. Two sentences! And three that never"
    assert cut_inside_block(text, 30) == ("One sentence. Two sentences!", 28)
    assert cut_inside_block(text, 20) == ("One sentence.", 13)
    assert cut_inside_block(text, 5) == ("One", 3)
    assert cut_inside_block("한" * 50, 7) == ("한" * 7, 7)


def test_a_long_fence_is_cut_behind_a_line_and_closed_again():
    code = "```py\na = 1\nb = 2\nc = 3\n```\n"
    assert cut_inside_block(code, 15) == ("```py\na = 1\n```", 12)
    assert cut_inside_block("Intro.\n\n" + code, 12) == ("Intro.\n\n", 8)
