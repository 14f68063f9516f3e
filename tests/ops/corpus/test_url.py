"""Canonical URLs."""

import pytest

from smartdevdigest_ops.corpus.url import UrlError, canonical_url


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (
            "HTTPS://A.Example:443/Docs/?utm_source=x&b=2&a=1&UTM_medium=y&gclid=z#part",
            "https://a.example/Docs?a=1&b=2",
        ),
        ("http://a.example:80", "http://a.example/"),
        ("http://a.example:8080//x//", "http://a.example:8080//x"),
        ("https://a.example/문서", "https://a.example/%EB%AC%B8%EC%84%9C"),
        ("https://a.example/%eb%ac%b8%ec%84%9c%7Ex", "https://a.example/%EB%AC%B8%EC%84%9C~x"),
        ("https://a.example/?q=%ea%b0%80+b&empty=", "https://a.example/?empty=&q=%EA%B0%80%20b"),
        ("https://a.example./x", "https://a.example/x"),
        ("https://[::1]:443/x", "https://[::1]/x"),
        ("https://a.example/?ref=1", "https://a.example/?ref=1"),
    ],
)
def test_what_does_not_choose_the_page_is_gone(url: str, expected: str) -> None:
    assert canonical_url(url) == expected
    assert canonical_url(expected) == expected


@pytest.mark.parametrize("url", ["ftp://a.example/", "https:///x", "https://a.example:port/", "https://[::1/", "a"])
def test_what_is_no_web_address_is_refused(url: str) -> None:
    with pytest.raises(UrlError, match="no"):
        canonical_url(url)
