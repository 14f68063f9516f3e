"""The crawl record: what a crawler hands over, one per document."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic_core import PydanticKnownError

SourceType = Literal["blog", "paper", "news"]
Language = Literal["ko", "en"]

LARGEST_VIEWS = 2**63 - 1
"""What a 64-bit column holds; a record above it is rejected where records are read."""


def _without_half_surrogates(text: str) -> str:
    """JSON can spell half a surrogate pair; neither Parquet nor a tokenizer takes it. pydantic looks only at some."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise PydanticKnownError("string_unicode") from None
    return text


Text = Annotated[str, AfterValidator(_without_half_surrogates)]


class CrawlRecord(BaseModel):
    """One crawled document. Keys outside the contract are kept in `extra`, never refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    source_type: SourceType = Field(description="Kind of publication.")
    url: Text = Field(
        min_length=1,
        description="Where the document was fetched; its identity across crawls.",
        json_schema_extra={"pattern": "^https?:///*[^/]"},
    )
    language: Language = Field(description="Language that the source declares.")
    title: Text | None = Field(description="Title, or null where the page has none.")
    content: Text = Field(
        min_length=1, description="Body as text or Markdown; not blank.", json_schema_extra={"pattern": r"\S"}
    )
    author: Text | None = Field(None, description="Author as printed.")
    publish_date: Text | None = Field(None, description="Date of publication as printed (ISO 8601 where known).")
    tags: list[Text] = Field(default_factory=list, description="Tags given by the publisher.")
    views: int | None = Field(
        None, ge=0, description="View count at crawl time.", json_schema_extra={"maximum": LARGEST_VIEWS}
    )
    extra: dict[str, Any] = Field(default_factory=dict, description="Keys of the input outside this contract.")

    @model_validator(mode="before")
    @classmethod
    def _keep_unknown_keys_aside(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        known = {key: value for key, value in data.items() if key in cls.model_fields and key != "extra"}
        unknown = {key: value for key, value in data.items() if key not in cls.model_fields}
        given = data.get("extra")
        unknown |= given if isinstance(given, dict) else ({} if given is None else {"extra": given})
        # Crawlers write null for "no tags"; the contract's empty value is a list.
        if known.get("tags", ...) is None:
            known["tags"] = []
        known.setdefault("title", None)
        return known | {"extra": unknown}

    @field_validator("views", mode="before")
    @classmethod
    def _views_are_whole_however_they_are_spelled(cls, views: Any) -> Any:
        # JSON and its Schema know one kind of number: 7.0 is the integer 7, and many writers spell it so.
        return int(views) if isinstance(views, float) and views.is_integer() else views

    @field_validator("url")
    @classmethod
    def _url_is_absolute(cls, url: str) -> str:
        scheme, separator, rest = url.partition("://")
        if not separator or scheme not in ("http", "https") or not rest.strip("/"):
            raise ValueError(f"must be an absolute http(s) URL, found {url[:80]!r}")
        return url

    @field_validator("content")
    @classmethod
    def _content_is_not_blank(cls, content: str) -> str:
        if not content.strip():
            raise ValueError("must not be blank")
        return content
