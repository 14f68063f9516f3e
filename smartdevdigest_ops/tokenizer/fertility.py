"""How many bytes a token holds, before and after, by language for prose and by language for code."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from smartdevdigest_ops.corpus.markdown import segments
from smartdevdigest_ops.tokenizer.encoding import encode_texts

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CODE = "code"
"""Kind of text of code blocks; prose has its language's."""


@dataclass(frozen=True)
class Fertility:
    """Size of one kind of text in UTF-8 bytes and in the tokens of both tokenizers."""

    num_bytes: int = 0
    num_tokens_before: int = 0
    num_tokens_after: int = 0

    def __add__(self, other: "Fertility") -> "Fertility":
        return Fertility(
            self.num_bytes + other.num_bytes,
            self.num_tokens_before + other.num_tokens_before,
            self.num_tokens_after + other.num_tokens_after,
        )

    def as_json(self) -> dict[str, float]:
        """Counts, bytes per token, and the relative change of the token count."""
        return {
            "num_bytes": self.num_bytes,
            "num_tokens_before": self.num_tokens_before,
            "num_tokens_after": self.num_tokens_after,
            "bytes_per_token_before": round(self.num_bytes / self.num_tokens_before, 4),
            "bytes_per_token_after": round(self.num_bytes / self.num_tokens_after, 4),
            "token_change": round(self.num_tokens_after / self.num_tokens_before - 1, 4),
        }


def split_code(content: str) -> tuple[str, str]:
    """Prose and code blocks of a Markdown document. A code span is part of its sentence, so of the prose."""
    prose: list[str] = []
    code: list[str] = []
    for segment in segments(content):
        is_block = segment.is_code and "\n" in segment.text
        (code if is_block else prose).append(segment.text)
    return "".join(prose), "".join(code)


def measure_fertility(
    before: "PreTrainedTokenizerBase", after: "PreTrainedTokenizerBase", documents: Iterable[Mapping[str, Any]]
) -> dict[str, Fertility]:
    """Fertility of `ko`, `en` (prose), `ko_code`, `en_code` and `code` (blocks of all languages), where there is any.

    `documents` are rows with `language` and `content`.
    """
    parts: list[tuple[str, tuple[str, ...]]] = []
    for document in documents:
        language = str(document["language"])
        prose, code = split_code(str(document["content"]))
        parts += [(text, kinds) for text, kinds in ((prose, (language,)), (code, (f"{language}_code", CODE))) if text]
    texts = [text for text, _ in parts]
    totals: dict[str, Fertility] = {}
    encoded = zip(parts, encode_texts(before, texts), encode_texts(after, texts), strict=True)
    for (text, kinds), ids_before, ids_after in encoded:
        measured = Fertility(len(text.encode("utf-8")), len(ids_before), len(ids_after))
        for kind in kinds:
            totals[kind] = totals.get(kind, Fertility()) + measured
    return dict(sorted(totals.items()))


def fertility_table(totals: Mapping[str, Fertility]) -> str:
    """Markdown table: bytes per token before and after, and the change of the token count."""
    lines = ["| text | bytes | bytes/token before | after | tokens |", "|---|---:|---:|---:|---:|"]
    for kind, total in totals.items():
        row = total.as_json()
        lines.append(
            f"| {kind} | {total.num_bytes:,} | {row['bytes_per_token_before']:.2f} "
            f"| {row['bytes_per_token_after']:.2f} | {row['token_change']:+.1%} |"
        )
    return "\n".join(lines)
