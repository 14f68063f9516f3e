"""Whether a tokenizer gives back every text it is given."""

import unicodedata
from collections.abc import Iterable
from typing import TYPE_CHECKING

from smartdevdigest_ops.tokenizer.encoding import encode_texts

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Texts that tokenizers lose parts of: Hangul, code with indentation, digits, runs of white space, control
# characters, characters outside the basic plane. All are in NFC, which some tokenizers normalise to.
PROBE_TEXTS: tuple[str, ...] = (
    "쿠버네티스는 컨테이너 오케스트레이션을 자동화하는 오픈 소스 플랫폼이다.",
    "미들웨어의 timeout 값을 30초에서 1,234.5초로 바꾼다 (v1.28.3).",
    "Orchestration isn't free: middleware adds 12 ms per request — don't ignore it.",
    'def main(args: list[str]) -> int:\n    """Doc."""\n\timport os\n    return len(args) % 256 if args else 0x1F\n',
    "apiVersion: v1\nkind: Pod\nmetadata:\n  name: nginx\n  labels: {app: 'web'}\n\n\n",
    "line one\r\nline two\ttab  two spaces   three \n",
    "".join(map(chr, range(1, 32))) + "\x7f\x85\u00a0\u200b\ufeff",
    "emoji 👩‍💻 🇰🇷, math ∑ᵢ xᵢ² ≤ ε, 漢字 かな, U+40000 \U00040000 U+80000 \U00080000 U+10FFFD \U0010fffd",
)


def round_trip_failures(tokenizer: "PreTrainedTokenizerBase", texts: Iterable[str]) -> list[str]:
    """The texts that decoding their encoding does not give back exactly; empty is the aim.

    A tokenizer that normalises to NFC is held to the NFC form of the text. One that writes a space as `▁` cannot tell
    the character `▁` (U+2581) from it, and is held to a space there. Nothing else may differ.
    """
    failures = []
    is_space = tokenizer.decode(tokenizer.encode("▁", add_special_tokens=False), skip_special_tokens=False) == " "
    texts = list(texts)
    for text, ids in zip(texts, encode_texts(tokenizer, texts), strict=True):
        decoded = tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        if decoded not in (text, unicodedata.normalize("NFC", text), text.replace("▁", " ") if is_space else text):
            failures.append(text)
    return failures


def excerpt_of_difference(tokenizer: "PreTrainedTokenizerBase", text: str, characters: int = 24) -> str:
    """Where the round trip of `text` first goes wrong: `'expected' became 'found'`, a few characters of each."""
    ids = tokenizer.encode(text, add_special_tokens=False, verbose=False)
    decoded = tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    same = next(
        (i for i, (a, b) in enumerate(zip(text, decoded, strict=False)) if a != b), min(len(text), len(decoded))
    )
    return f"{text[same : same + characters]!r} became {decoded[same : same + characters]!r}"
