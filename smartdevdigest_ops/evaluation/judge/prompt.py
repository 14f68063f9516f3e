"""What the judge is asked: an instruction with the rubric, and document, reference and summaries as data.

As a teacher's question (`labeling.prompt`): the user's turn is one JSON object and nothing else, so that no text in it
can end it.
"""

from functools import cache
from typing import Any

from smartdevdigest_ops.evaluation.gold import TestDocument
from smartdevdigest_ops.labeling.prompt import Messages, as_data, without_template_tokens

# Part of the cache's key. Raise it when a question changes: every judgement is then bought again. A test holds it
# against a hash of what is asked.
PROMPT_VERSION = "1"


@cache
def rating_instruction(dimension: str) -> str:
    """The system message that asks for a digit 1-5."""
    return _render("rating.md.jinja", dimension=dimension)


@cache
def preference_instruction() -> str:
    """The system message that asks for the better of two summaries."""
    return _render("preference.md.jinja")


def rating_data(document: TestDocument, reference: str | None, summary: str, max_characters: int) -> str:
    """Document, reference and summary; the document beyond `max_characters` is left out and said to be."""
    return as_data(_document(document, max_characters) | {"reference": reference, "summary": summary})


def preference_data(document: TestDocument, reference: str | None, first: str, second: str, max_characters: int) -> str:
    """Document, reference and two summaries; the document beyond `max_characters` is left out and said to be."""
    summaries = {"reference": reference, "summary_1": first, "summary_2": second}
    return as_data(_document(document, max_characters) | summaries)


def repair_turns(answer: str, num_digits: int) -> Messages:
    """Turns that hold an answer up to the judge and ask for the digit alone."""
    return [
        {"role": "assistant", "content": without_template_tokens(answer)},
        {"role": "user", "content": f"Answer with one digit from 1 to {num_digits}, and nothing else."},
    ]


def _document(document: TestDocument, max_characters: int) -> dict[str, Any]:
    data: dict[str, Any] = {
        "language": document.language,
        "title": document.title,
        "document": document.content[:max_characters],
    }
    if len(document.content) > max_characters:
        data["document_is_cut_after_characters"] = max_characters
    return data


def _render(template: str, **values: str) -> str:
    from jinja2 import Environment, PackageLoader, StrictUndefined  # noqa: PLC0415 - where there is a judge only

    loader = PackageLoader("smartdevdigest_ops.evaluation.judge", ".")
    return Environment(loader=loader, undefined=StrictUndefined).get_template(template).render(**values)
