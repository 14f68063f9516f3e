"""`config/sources.yaml`: which feeds, sitemaps and URL lists are crawled, and on which terms."""

import re
from collections import Counter
from collections.abc import Hashable, Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import urlsplit

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from smartdevdigest_ops.contracts.document import Language, SourceType
from smartdevdigest_ops.errors import UserError
from smartdevdigest_ops.settings.section import Section

SourceKind = Literal["feed", "sitemap", "urls"]


class SourcesError(UserError):
    """The sources file is missing, unreadable or holds a wrong source. Nothing is crawled then."""


class Source(Section):
    """One feed, sitemap or URL list, and what is known of all its pages."""

    name: str = Field(
        pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$",
        description="Short name, in records and in the ledger: lower-case letters, digits, - and _.",
    )
    kind: SourceKind = Field(description="feed (RSS or Atom), sitemap (XML, gzip or text), or urls (a list).")
    url: str | None = Field(None, description="Where the feed, the sitemap or a list of URLs is fetched.")
    path: str | None = Field(None, description="For urls: a local file, one URL per line; relative to the project.")
    urls: tuple[str, ...] = Field((), description="For urls: the pages themselves.")
    source_type: SourceType = Field(description="Kind of publication, given to every page.")
    language: Language | None = Field(None, description="Language of pages that declare none themselves.")
    licence: str = Field(
        min_length=1, description="Terms under which the pages may be used, as the ledger records them: CC-BY-4.0, ..."
    )
    include: tuple[str, ...] = Field(
        (), description="Regular expressions; with any, only pages whose URL one of them finds are taken."
    )
    exclude: tuple[str, ...] = Field(
        (), description="Regular expressions; pages whose URL one of them finds are left out."
    )
    max_pages: int = Field(1_000, gt=0, description="Most pages fetched in one crawl.")
    enabled: bool = Field(True, description="Whether it is crawled.")

    def takes(self, url: str) -> bool:
        """Whether the page's URL is included and not excluded."""
        is_included = not self.include or any(re.search(pattern, url) for pattern in self.include)
        return is_included and not any(re.search(pattern, url) for pattern in self.exclude)

    @field_validator("licence")
    @classmethod
    def _licence_says_something(cls, licence: str) -> str:
        if not licence.strip():
            raise ValueError("must name the terms, such as CC-BY-4.0 or 'permission by mail of 2026-03-02'")
        return licence.strip()

    @field_validator("include", "exclude")
    @classmethod
    def _patterns_compile(cls, patterns: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in patterns:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"{pattern!r} is no regular expression: {error}") from None
        return patterns

    @field_validator("url")
    @classmethod
    def _url_can_be_fetched(cls, url: str | None) -> str | None:
        return _web_url(url) if url is not None else None

    @field_validator("urls")
    @classmethod
    def _urls_can_be_fetched(cls, urls: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(map(_web_url, urls))

    @model_validator(mode="after")
    def _has_one_place_to_list_from(self) -> Self:
        given = [name for name in ("url", "path", "urls") if getattr(self, name)]
        if self.kind == "urls" and len(given) != 1:
            raise ValueError(f"kind urls needs one of url, path and urls, found {' and '.join(given) or 'none'}")
        if self.kind != "urls" and given != ["url"]:
            found = " and ".join(given) or "none"
            raise ValueError(f"kind {self.kind} needs url and nothing else to list from, found {found}")
        return self


def load_sources(path: Path) -> tuple[Source, ...]:
    """The enabled sources of the file, in its order; the disabled ones are checked as well.

    Raises:
        SourcesError: the file is missing, is no YAML of that form, or a source in it is wrong. All faults are named.
    """
    entries = _read(path)
    sources: list[Source] = []
    faults: list[str] = []
    for number, entry in enumerate(entries, 1):
        name = entry.get("name") if isinstance(entry, dict) else None
        label = f"source {number}" + (f" ({name})" if isinstance(name, str) else "")
        try:
            sources.append(Source.model_validate(entry))
        except ValidationError as error:
            faults.extend(f"  {label}: {fault}" for fault in _faults(error))
    for name, count in Counter(source.name for source in sources).items():
        if count > 1:
            faults.append(f"  name {name!r} is given to {count} sources; the ledger tells sources apart by it")
    if faults:
        raise SourcesError(f"{path} is refused and nothing is crawled until it is mended:\n" + "\n".join(faults))
    return tuple(source for source in sources if source.enabled)


def _read(path: Path) -> list[Any]:
    try:
        tree = yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeysLoader)
    except FileNotFoundError:
        raise SourcesError(
            f"There is no {path}. It lists what is crawled, under the key `sources`; the setting crawl.sources_path "
            "says where it is."
        ) from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise SourcesError(f"{path} could not be read: {error}. Nothing is crawled until it is mended.") from None
    if not isinstance(tree, dict) or set(tree) != {"sources"} or not isinstance(tree["sources"], list | None):
        raise SourcesError(
            f"{path} must hold the one key `sources` with a list of sources, found {_form(tree)}. Nothing is crawled "
            "until it is mended."
        )
    return tree["sources"] or []


def _form(tree: Any) -> str:
    """What stands in the place of `sources: [...]`, in the words of whoever wrote it."""
    if tree is None:
        return "nothing"
    if not isinstance(tree, dict):
        return "a list without that key" if isinstance(tree, list) else f"the text {str(tree)[:80]!r}"
    if set(tree) != {"sources"}:
        return f"keys {', '.join(map(str, tree)) or 'none'}"
    return f"`sources` with {'keys' if isinstance(tree['sources'], dict) else 'one value'} in place of a list"


class _UniqueKeysLoader(yaml.SafeLoader):
    """Refuses a key that is given twice, of which YAML would silently keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        mapping = super().construct_mapping(node, deep=deep)
        if len(mapping) < len(node.value):
            counts = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
            repeated = [key for key, count in counts.items() if count > 1]
            if repeated:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {repeated[0]!r} is given twice in one source", node.start_mark
                )
        return mapping


def _faults(error: ValidationError) -> Iterator[str]:
    for problem in error.errors():
        where = ".".join(map(str, problem["loc"]))
        message = problem["msg"].removeprefix("Value error, ").removeprefix("Input ")
        found = f", found {str(problem['input'])[:120]!r}"
        if not where:
            yield message if problem["type"] == "value_error" else f"must be a mapping of keys{found}"
        elif problem["type"] == "extra_forbidden":
            known = sorted(Source.model_fields)
            near = get_close_matches(where, known, n=1)
            meant = f" Meant is perhaps `{near[0]}`." if near else ""
            yield f"`{where}` is an unknown key.{meant} Known: {', '.join(known)}."
        elif problem["type"] == "missing":
            yield f"`{where}` is missing: {Source.model_fields[where].description}"
        elif problem["type"] == "string_pattern_mismatch":
            yield f"`{where}` must be: {Source.model_fields[where].description}{found}"
        else:
            yield f"`{where}` {message}{'' if problem['type'] == 'value_error' else found}"


def _web_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        is_web = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        parts, is_web = None, False
    if parts is None or not is_web or any(character.isspace() for character in url):
        raise ValueError(f"must be an absolute http(s) URL, found {url[:120]!r}")
    if "@" in parts.netloc:
        raise ValueError("must not carry a user name or password: they would stand in every record and log")
    return url
