"""The canonical form of a URL: a page's identity across crawls, whatever link led to it."""

import re
from urllib.parse import SplitResult, parse_qsl, quote, urlencode, urlsplit, urlunsplit

from smartdevdigest_ops.errors import UserError

_DEFAULT_PORTS = {"http": 80, "https": 443}
_TRACKING_PREFIXES = ("utm_",)
# Click identifiers of ad networks and mailers. `ref`, `source` and the like choose content on some sites: kept.
_TRACKING_NAMES = frozenset(
    (
        "gclid",
        "dclid",
        "gbraid",
        "wbraid",
        "fbclid",
        "msclkid",
        "yclid",
        "igshid",
        "mc_cid",
        "mc_eid",
        "_hsenc",
        "_hsmi",
    )
)
# Left as they are when quoting: RFC 3986 unreserved and sub-delims, the path's own delimiters, and `%` of escapes.
_PATH_SAFE = "/:@!$&'()*+,;=~-._%"
_ESCAPE = re.compile(r"%[0-9a-fA-F]{2}")
_UNRESERVED = re.compile(r"[A-Za-z0-9\-._~]")


class UrlError(UserError):
    """The text is no absolute http(s) URL."""


def canonical_url(url: str) -> str:
    """The URL without what does not choose the page; equal pages give equal text.

    Scheme and host in lower case, no default port, no fragment, no trailing slash (but the root's), no tracking
    parameters, the others sorted, escapes spelled one way (so an address in Hangul equals its escaped form).

    Raises:
        UrlError: no absolute http(s) URL.
    """
    try:
        parts = urlsplit(url.strip())
        port = parts.port
    except ValueError as error:
        raise UrlError(f"{url[:120]!r} is no URL: {error}") from None
    host = (parts.hostname or "").rstrip(".")
    if parts.scheme not in _DEFAULT_PORTS or not host:
        raise UrlError(f"{url[:120]!r} is no absolute http(s) URL")
    path = _ESCAPE.sub(_one_spelling, quote(parts.path, safe=_PATH_SAFE)).rstrip("/") or "/"
    return urlunsplit(SplitResult(parts.scheme, _network_location(parts, host, port), path, _query(parts.query), ""))


def _network_location(parts: SplitResult, host: str, port: int | None) -> str:
    host = f"[{host}]" if ":" in host else host
    user = f"{parts.netloc.rpartition('@')[0]}@" if "@" in parts.netloc else ""
    return f"{user}{host}" if port in (None, _DEFAULT_PORTS[parts.scheme]) else f"{user}{host}:{port}"


def _query(query: str) -> str:
    pairs = [
        (name, value)
        for name, value in parse_qsl(query, keep_blank_values=True)
        if not name.lower().startswith(_TRACKING_PREFIXES) and name.lower() not in _TRACKING_NAMES
    ]
    return urlencode(sorted(pairs), quote_via=quote)


def _one_spelling(escape: re.Match[str]) -> str:
    character = chr(int(escape[0][1:], 16))
    return character if _UNRESERVED.fullmatch(character) else escape[0].upper()
