"""One record of a drop: parsed and checked against the contract, or rejected alone with a reason to act on."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from pydantic import ValidationError

from smartdevdigest_ops.contracts import CrawlRecord
from smartdevdigest_ops.contracts.document import LARGEST_VIEWS

MAX_RECORD_BYTES = 32 * 2**20
"""A longer record is rejected unread, so that one runaway line cannot take the memory of the run."""
_EXCERPT_CHARACTERS = 200
_EXPECTED = {
    "literal_error": "must be {expected}",
    "missing": "is missing",
    "string_type": "must be text",
    "string_unicode": "holds half a surrogate pair, which is no character",
    "string_too_short": "must not be empty",
    "int_type": "must be a whole number",
    "greater_than_equal": "must be at least {ge}",
    "list_type": "must be a list of texts",
    "dict_type": "must be an object",
}


@dataclass(frozen=True)
class Reject:
    """A record that was refused."""

    reason: str
    """`field: what is wrong`, several joined by `; `. Equal faults give equal text, so that reasons can be counted."""
    excerpt: str
    """Beginning of the record, at most 200 characters."""


def parse_record(data: bytes) -> CrawlRecord | Reject:
    """The record in one JSON object (UTF-8, with or without a byte order mark)."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        return Reject(f"not UTF-8: {error.reason}", _excerpt(data.decode("utf-8", "replace")))
    try:
        fields = json.loads(text, object_pairs_hook=_without_duplicates, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        return Reject(f"not JSON: {error.msg}", _excerpt(text))
    except ValueError as error:  # from the hooks, or an integer of thousands of digits
        return Reject(f"not JSON: {str(error).partition(';')[0]}", _excerpt(text))
    except RecursionError:
        return Reject("not JSON: nested too deep", _excerpt(text))
    return check_record(fields, text)


def check_record(fields: Any, text: str) -> CrawlRecord | Reject:
    """The record that parsed `fields` make; `text` is what an excerpt is taken from."""
    if not isinstance(fields, dict):
        return Reject(f"must be a JSON object, found {_json_type(fields)}", _excerpt(text))
    try:
        record = CrawlRecord.model_validate(fields)
    except ValidationError as error:
        return Reject(_explain(error), _excerpt(text))
    if record.views is not None and record.views > LARGEST_VIEWS:
        return Reject("views: must be below 2^63", _excerpt(text))
    return record


def from_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a Parquet row as JSON would give them: dates as ISO text, whole floats as integers, NaN as null."""
    return {name: _plain(value) for name, value in row.items()}


def too_long(num_bytes: int, head: bytes) -> Reject:
    """The reject of a record beyond `MAX_RECORD_BYTES`, of which only `head` was kept."""
    bound = MAX_RECORD_BYTES // 2**20
    return Reject(f"longer than {bound} MiB", _excerpt(f"({num_bytes} bytes) " + head.decode("utf-8", "replace")))


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        return int(value) if value.is_integer() else value
    if isinstance(value, date):  # datetime is one
        return value.isoformat()
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return value if value is None or isinstance(value, str | int | bool) else str(value)


def _explain(error: ValidationError) -> str:
    reasons = []
    for problem in error.errors(include_url=False):
        field = ".".join(str(part) for part in problem["loc"] if isinstance(part, str)) or "record"
        template = _EXPECTED.get(problem["type"])
        if template is None:
            # The contract's own validators; what they quote from the record would make every reason unique.
            message = problem["msg"].removeprefix("Value error, ").partition(", found ")[0]
        else:
            message = template.format_map(problem.get("ctx", {}))
        if problem["type"] in ("literal_error", "string_type", "int_type", "list_type"):
            found = problem["input"]
            shown = repr(found[:20]) if isinstance(found, str) else _json_type(found)
            message = f"{message}, found {shown}"
        reasons.append(f"{field}: {message}")
    return "; ".join(dict.fromkeys(reasons))


def _json_type(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    names = {str: "text", int: "a number", float: "a number", list: "a list", dict: "an object"}
    return names.get(type(value), type(value).__name__)


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for name, value in pairs:
        if name in fields:
            raise ValueError(f"the key {_excerpt(name)[:40]!r} occurs twice")
        fields[name] = value
    return fields


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


def _excerpt(text: str) -> str:
    head = text[: 2 * _EXCERPT_CHARACTERS].encode("utf-8", "replace").decode("utf-8")
    return " ".join(head.split())[:_EXCERPT_CHARACTERS]
