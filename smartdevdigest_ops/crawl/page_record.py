"""The crawl record of a fetched page: what the page says, else what its listing says, else what its source says."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from smartdevdigest_ops.artifacts import canonical_json, content_hash
from smartdevdigest_ops.corpus.language import is_korean
from smartdevdigest_ops.corpus.url import canonical_url
from smartdevdigest_ops.crawl.fetching.fetch import Fetched
from smartdevdigest_ops.crawl.sources import Source
from smartdevdigest_ops.drops.records import MAX_RECORD_BYTES, Reject, check_record

if TYPE_CHECKING:
    from smartdevdigest_ops.crawl.extraction.extract import ExtractedPage

_LANGUAGES = ("ko", "en")
# What asks not to be in an index does not want to be in a corpus either.
_UNWILLING = frozenset(("noindex", "none", "noai"))


class RecordRefused(Exception):
    """The page makes no record of the contract; `reason` is its counter."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


@dataclass(frozen=True)
class PageRecord:
    """A line of a drop, and what it is compared by."""

    line: bytes
    content_hash: str
    """Of all that the contract holds but when it was fetched; equal content under one URL is not emitted again."""
    licence_url: str | None


def make_record(page: "ExtractedPage", fetched: Fetched, source: Source, entry: Mapping[str, Any]) -> PageRecord:
    """The record of the page, checked against the contract.

    Raises:
        RecordRefused: `robots_page` where the page asks to be left out, `language` where it is declared to be in
            another language than Korean and English, `contract` where its record breaks that, `record_too_long`.
    """
    if unwilling := _UNWILLING.intersection(_directives(page, fetched)):
        raise RecordRefused("robots_page", f"the page asks to be left out ({', '.join(sorted(unwilling))})")
    fields = {
        "source_type": source.source_type,
        "url": fetched.final_url,
        "language": _language(page, source),
        "title": page.title or entry.get("title"),
        "content": page.content,
        "author": page.author or entry.get("author"),
        "publish_date": page.publish_date or entry.get("published"),
        "tags": list(page.tags or entry.get("tags") or ()),
        "views": None,
    }
    outside = {"fetched_at": fetched.fetched_at, "source": source.name, "licence": source.licence}
    if page.canonical_url is not None:
        # Kept, not believed: sites that call every page their home page would be left with one.
        outside["canonical_url"] = page.canonical_url
    if page.licence_url is not None:
        outside["licence_url"] = page.licence_url
    line = json.dumps(fields | outside, ensure_ascii=False).encode("utf-8", "surrogatepass")
    if len(line) > MAX_RECORD_BYTES:
        raise RecordRefused("record_too_long", f"the record has {len(line)} bytes, more than {MAX_RECORD_BYTES}")
    record = check_record(fields, fetched.final_url)
    if isinstance(record, Reject):
        raise RecordRefused("contract", record.reason)
    # The address may come with and without its slash or a click's tracking parameters: that is no change.
    same_url = fields | {"url": canonical_url(fetched.final_url)}
    return PageRecord(line, content_hash(canonical_json(same_url)), page.licence_url)


def _directives(page: "ExtractedPage", fetched: Fetched) -> tuple[str, ...]:
    """What the page says to robots, in `<meta name=robots>` and in its X-Robots-Tag, where that is said to all."""
    header = fetched.headers.get("x-robots-tag", "").lower().split(",")
    return tuple(dict.fromkeys((*page.robots, *(part.strip() for part in header if part.strip()))))


def _language(page: "ExtractedPage", source: Source) -> str:
    """As the page declares, else as its source does, else Korean where enough of it is Hangul."""
    declared = page.language or source.language
    if declared is None:
        return "ko" if is_korean(page.content) else "en"
    if declared not in _LANGUAGES:
        raise RecordRefused("language", f"the page is declared to be in {declared!r}; needed are ko and en")
    return declared
