"""Lines of a site are taken from its pages, and nothing else is."""

from collections import Counter
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smartdevdigest_ops.contracts import CrawlRecord
from smartdevdigest_ops.corpus.boilerplate import SiteLines, line_hash, strip_boilerplate
from smartdevdigest_ops.corpus.navigation import is_navigation
from smartdevdigest_ops.settings.corpus import BoilerplateSettings

SETTINGS = BoilerplateSettings()
SITE = "docs.example en"
MENU = "- [Home](/)\n- [Guides](/guides)\n- [블로그](/blog)\n- [Contact us](/contact)"
FOOTER = "## Stay in touch\n\nFollow the Example Project for news.\n\nAll content is offered under the Example Licence."


def own_text(number: int) -> str:
    return (
        f"# Page {number}\n\n## What's next\n\n**Note:** number {number} differs.\n\n"
        "**Note:**\n\nIn this page you learn:\n\n"
        f"- how service {number} starts\n- [reference {number}](/r/{number})\n\n"
        f"| Name | Value |\n|---|---|\n| port | {number} |\n\n"
        f"```sh\nFollow the Example Project for news.\nrun {number}\n```\n\n"
        f"A last sentence on service {number} that ends the page's own text.\n\nPort {number}.\n\nSee {number}."
    )


def lines_of(pages: Iterable[str], settings: BoilerplateSettings = SETTINGS) -> frozenset[int]:
    site_lines = SiteLines(settings, 1 << 20)
    for page in pages:
        site_lines.add(SITE, page)
    return site_lines.boilerplate(SITE)


def test_menu_and_footer_go_and_the_pages_own_text_stays_byte_for_byte() -> None:
    pages = [f"{MENU}\n\n{own_text(number)}\n\n{FOOTER}" for number in range(12)]
    hashes = lines_of(pages)
    for number, page in enumerate(pages):
        text, num_removed = strip_boilerplate(page, hashes, SETTINGS)
        assert text == own_text(number)
        assert num_removed == 7


def test_shared_headings_labels_lead_ins_tables_and_code_stay() -> None:
    pages = [own_text(number) for number in range(12)]
    hashes = lines_of(pages)
    assert line_hash("## What's next") in hashes
    for page in pages:
        assert strip_boilerplate(page, hashes, SETTINGS) == (page, 0)


def test_a_site_with_few_pages_is_left_alone() -> None:
    pages = [f"{MENU}\n\n{own_text(number)}" for number in range(SETTINGS.min_pages - 1)]
    assert lines_of(pages) == frozenset()
    assert lines_of([*pages, own_text(99)])


def test_a_line_on_fewer_than_half_of_the_pages_belongs_to_them() -> None:
    pages = [f"{MENU}\n\n{own_text(number)}" if number < 9 else own_text(number) for number in range(20)]
    assert line_hash("- [Home](/)") not in lines_of(pages)
    assert line_hash("- [Home](/)") in lines_of(pages, BoilerplateSettings(min_page_share=0.4))


def test_a_shared_sentence_in_the_middle_stays_and_a_shared_run_goes() -> None:
    def page(number: int, shared: str) -> str:
        own = "\n\n".join(f"Line {line} of page {number} says something of its own." for line in range(8))
        return f"{own}\n\n{shared}\n\n{own.replace('Line', 'Row')}"

    alone = "Run the destroy command to delete what you made."
    pages = [page(number, alone) for number in range(12)]
    assert strip_boilerplate(pages[0], lines_of(pages), SETTINGS) == (pages[0], 0)
    run = "Related posts\n\n- [Ten tips](/ten)\n- [More tips](/more)"
    pages = [page(number, run) for number in range(12)]
    text, num_removed = strip_boilerplate(pages[0], lines_of(pages), SETTINGS)
    assert num_removed == 3
    assert text == page(0, "X").replace("X\n\n", "")


def test_the_rest_of_a_sentence_with_hard_line_breaks_stays() -> None:
    pages = [
        f"# Page {number}\n\nIf you have no cluster {number} yet, you may create one with\nany local tool you like."
        for number in range(12)
    ]
    hashes = lines_of(pages)
    assert line_hash("any local tool you like.") in hashes
    assert strip_boilerplate(pages[0], hashes, SETTINGS) == (pages[0], 0)


def test_what_a_page_repeats_itself_is_its_own() -> None:
    caption = "File name: main.rs is shown"
    pages = ["\n\n".join([f"# Page {number}"] + [caption, f"text {number}"] * 3) for number in range(12)]
    assert line_hash(caption) not in lines_of(pages)


def test_long_lines_are_text() -> None:
    long = "word " * 70
    pages = [f"{long}\n\n{own_text(number)}" for number in range(12)]
    assert line_hash(long) not in lines_of(pages)
    assert strip_boilerplate(pages[0], frozenset([line_hash(long)]), SETTINGS)[1] == 0


def test_stripping_a_second_time_changes_nothing() -> None:
    pages = [f"{MENU}\n\n{own_text(number)}\n\n{FOOTER}" for number in range(12)]
    hashes = lines_of(pages)
    once, _ = strip_boilerplate(pages[0], hashes, SETTINGS)
    assert strip_boilerplate(once, hashes, SETTINGS) == (once, 0)


def test_a_page_of_nothing_but_its_sites_lines_comes_out_empty() -> None:
    pages = [MENU] * 12
    assert strip_boilerplate(MENU, lines_of(pages), SETTINGS) == ("", 4)
    assert strip_boilerplate("", frozenset([1]), SETTINGS) == ("", 0)


def test_sites_are_counted_apart() -> None:
    site_lines = SiteLines(SETTINGS, 1 << 20)
    for number in range(12):
        site_lines.add("a.example en", f"{MENU}\n\n{own_text(number)}")
        site_lines.add("b.example en", own_text(number))
    assert line_hash("- [Home](/)") in site_lines.boilerplate("a.example en")
    assert line_hash("- [Home](/)") not in site_lines.boilerplate("b.example en")
    assert site_lines.boilerplate("c.example en") == frozenset()


def test_beyond_its_memory_new_sites_are_reported_and_known_ones_still_counted() -> None:
    site_lines = SiteLines(SETTINGS, max_memory_bytes=20_000)
    for number in range(12):
        site_lines.add(SITE, f"{MENU}\n\n{own_text(number)}")
    for number in range(500):
        site_lines.add(f"{number}.example en", own_text(number))
    for number in range(12, 40):
        site_lines.add(SITE, f"{MENU}\n\n{own_text(number)}")
    assert site_lines.num_bytes < 30_000
    num_unchecked = site_lines.num_unchecked_pages
    assert 400 < num_unchecked < 500
    for number in range(500):
        site_lines.add(f"{number}.example en", own_text(number))
    assert site_lines.num_unchecked_pages == 2 * num_unchecked  # those of the same sites, once more
    assert site_lines.boilerplate("499.example en") == frozenset()
    assert line_hash("- [Home](/)") in site_lines.boilerplate(SITE)


@given(st.lists(st.sets(st.sampled_from("abcdefgh")), min_size=1, max_size=60))
def test_counts_are_never_too_high_and_low_by_an_eighth_at_most(pages: list[set[str]]) -> None:
    settings = BoilerplateSettings(min_pages=2)
    exact = Counter(line for page in pages for line in page)
    hashes = lines_of(["\n".join(page) for page in pages], settings)
    for line, count in exact.items():
        if line_hash(line) in hashes:
            assert count >= len(pages) / 2
        elif len(pages) >= 2:
            assert count < max(2, len(pages) / 2) + len(pages) / 8


def test_hashes_are_the_same_in_every_process() -> None:
    assert line_hash("  한 줄\t text ") == line_hash("한 줄 text") == 2238218823822550299


@pytest.mark.parametrize(
    "line",
    [
        "[Skip to main content](#main)",
        "본문 바로가기",
        "## Was this page helpful?",
        "Was this page helpful? Yes No",
        "이 페이지가 도움이 되었나요?",
        "Accept all cookies",
        "쿠키 설정",
        "We use cookies to improve your experience on our site.",
        "저희 사이트는 더 나은 서비스를 위해 쿠키를 사용합니다.",
        "- [Edit this page on GitHub](https://a.example/edit)",
        "이 페이지 편집",
        "Share this article on LinkedIn",
        "이 글 공유하기",
        "카카오톡으로 공유",
        "링크 복사",
        "Back to top ↑",
        "맨 위로",
        "5 min read",
        "읽는 데 5분",
        "Last updated on January 3, 2024",
        "최종 수정일: 2024년 1월 3일",
        "© 2024 The Example Authors. All rights reserved.",
        "Copyright © 2019-2024 Example, Inc.",
        "무단 전재 및 재배포 금지",
        "« Previous | Next »",
        "이전 글 | 다음 글",
        "Please enable JavaScript to view the comments.",
        "Powered by Hugo",
        "###### Auto generated by spf13/cobra on 14-Jan-2026",
    ],
)
def test_navigation_goes_wherever_it_stands(line: str) -> None:
    assert is_navigation(line)
    assert strip_boilerplate(f"# Title\n\nText.\n\n{line}\n\nMore text.", frozenset(), SETTINGS) == (
        "# Title\n\nText.\n\nMore text.",
        1,
    )


@pytest.mark.parametrize(
    "line",
    [
        "## Cookie settings",
        "Cookie settings are stored per browser.",
        "쿠키 설정은 브라우저마다 따로 저장된다.",
        "Accept all cookies only when the user agrees, as the regulation demands.",
        "The button says Accept all cookies.",
        "like this:",
        "Next",
        "Share the volume with another pod.",
        "Last updated values win when two writers collide.",
        "Copy the file to the server.",
        "View source maps in the browser.",
        "로그인",
        "이 글에서는 컨테이너를 공유하는 방법을 다룬다.",
        "5 minutes later the node is ready.",
        "This site uses cookies, which the proxy must pass on; see the chapter on sessions for what breaks otherwise. "
        * 3,
    ],
)
def test_sentences_and_headings_about_such_things_stay(line: str) -> None:
    assert not is_navigation(line)
    text = f"# Title\n\n{line.strip()}\n\nMore text."
    assert strip_boilerplate(text, frozenset(), SETTINGS) == (text, 0)


def test_navigation_in_code_and_in_the_middle_of_a_sentence_stays() -> None:
    sentence = "The banner of the page has one button, which reads\nAccept all cookies\nand no other."
    text = f"```\nAccept all cookies\n```\n\n{sentence}"
    assert strip_boilerplate(text, frozenset(), SETTINGS) == (text, 0)


def test_no_sample_document_loses_a_line(sample_documents: list[CrawlRecord]) -> None:
    site_lines = SiteLines(SETTINGS, 1 << 20)
    for document in sample_documents:
        site_lines.add("sample", document.content)
    for document in sample_documents:
        text, num_removed = strip_boilerplate(document.content, site_lines.boilerplate("sample"), SETTINGS)
        assert (text, num_removed) == (document.content, 0), document.url
