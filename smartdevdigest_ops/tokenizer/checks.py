"""The gates of a domain tokenizer: what an extension must leave as it was, and what it promised."""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smartdevdigest_ops.stage import CheckResult
from smartdevdigest_ops.tokenizer.dead_tokens import TokenUse
from smartdevdigest_ops.tokenizer.encoding import encode_texts, parallel_tokenizers
from smartdevdigest_ops.tokenizer.round_trip import excerpt_of_difference, round_trip_failures

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_CHAT = [
    {"role": "user", "content": "쿠버네티스의 middleware를 요약해 줘."},
    {"role": "assistant", "content": '{"summary": "컨테이너 orchestration"}'},
]
_WHITE_SPACE = (" ", "\t", "\n", "\r\n", "\n    ", "\n\t\t", "\n\n  ", " \t")
_NUMBERS_AND_WHITE_SPACE = (
    *("0123456789", "7", "42", "404", "2026", "65536", "1234567", " 8080", "3.14159", "1,234,567", "10.0.0.1", "00:59"),
    *(unit * repeats for unit in _WHITE_SPACE for repeats in (1, 2, 3, 4, 7, 8, 12, 16, 24, 32)),
)


def check_round_trip(tokenizer: "PreTrainedTokenizerBase", texts: Sequence[str]) -> CheckResult:
    """Decoding the encoding of a held-out document gives it back exactly."""
    failures = round_trip_failures(tokenizer, texts)
    message = f"{len(texts) - len(failures)} of {len(texts)} held-out and probe texts round-trip exactly; all must."
    if failures:
        message += f" In the first that does not, {excerpt_of_difference(tokenizer, failures[0])}."
    return CheckResult("round_trip_exact", not failures, message)


def check_base_ids(base: "PreTrainedTokenizerBase", tokenizer: "PreTrainedTokenizerBase") -> CheckResult:
    """Every token of the base, special tokens included, has the id it had."""
    now = tokenizer.get_vocab()
    moved = sorted(token for token, token_id in base.get_vocab().items() if now.get(token) != token_id)
    named = ("bos_token_id", "eos_token_id", "pad_token_id", "unk_token_id")
    changed = [name for name in named if getattr(base, name) != getattr(tokenizer, name)]
    message = f"{len(moved)} of {len(base)} base tokens moved or are gone; none may."
    if moved:
        message += f" The first: {moved[0]!r}."
    if changed:
        message += f" Changed: {', '.join(changed)}."
    return CheckResult("base_tokens_keep_their_ids", not moved and not changed, message)


def check_special_tokens_and_chat(
    base: "PreTrainedTokenizerBase", tokenizer: "PreTrainedTokenizerBase", new_tokens: Sequence[Mapping[str, Any]]
) -> CheckResult:
    """Special tokens are written, recognised and numbered as before, and a conversation is rendered as before."""
    changed = []
    if base.special_tokens_map != tokenizer.special_tokens_map:
        changed.append("the map of special tokens")
    specials = "".join(base.all_special_tokens)
    if base.encode(specials, add_special_tokens=False) != tokenizer.encode(specials, add_special_tokens=False):
        changed.append("how special tokens are encoded")
    if base.encode("") != tokenizer.encode(""):
        changed.append("the tokens put around a text")
    if base.chat_template != tokenizer.chat_template:
        changed.append("the chat template")
    elif base.chat_template:
        before, after = (each.apply_chat_template(_CHAT, tokenize=False) for each in (base, tokenizer))
        ids = tokenizer.encode(after, add_special_tokens=False)
        if before != after or base.encode(before, add_special_tokens=False) != _expanded(ids, _base_ids(new_tokens)):
            changed.append("a rendered conversation")
    message = f"{len(base.all_special_tokens)} special tokens and the chat template compared; nothing may change."
    if changed:
        message += f" Changed: {', '.join(changed)}."
    return CheckResult("special_tokens_and_chat_template_unchanged", not changed, message)


def check_digits_and_indentation(base: "PreTrainedTokenizerBase", tokenizer: "PreTrainedTokenizerBase") -> CheckResult:
    """Numbers and runs of white space are encoded as the base encodes them."""
    differing = [
        text
        for text in _NUMBERS_AND_WHITE_SPACE
        if base.encode(text, add_special_tokens=False) != tokenizer.encode(text, add_special_tokens=False)
    ]
    message = f"{len(differing)} of {len(_NUMBERS_AND_WHITE_SPACE)} numbers and indentations are encoded otherwise; "
    message += "none may be."
    if differing:
        message += f" The first: {differing[0]!r}."
    return CheckResult("digits_and_indentation_unchanged", not differing, message)


def check_no_dead_tokens(use: TokenUse) -> CheckResult:
    """Each new token encodes something in the train split, leads to one that does, or was asked for."""
    total = sum(map(len, (use.produced, use.required, use.steps, use.dead)))
    message = (
        f"{len(use.dead)} of {total} new tokens are dead; none may be. {len(use.produced)} are in the encoding of the "
        f"train split, {len(use.steps)} only as steps to these, {len(use.required)} for required terms that it does "
        "not hold so."
    )
    if use.dead:
        message += f" The first dead: {min(use.dead)!r}."
    return CheckResult("no_dead_tokens", not use.dead, message)


def check_required_terms(tokenizer: "PreTrainedTokenizerBase", terms: Sequence[str]) -> CheckResult:
    """Each required term is one token, alone and after a space."""
    split = {}
    for term in terms:
        alone = tokenizer.encode(term, add_special_tokens=False, verbose=False)
        spaced = tokenizer.encode(f" {term}", add_special_tokens=False, verbose=False)
        # Where the space is a token of its own, the term after it must be the very token it is alone.
        spaced_is_one = len(spaced) == 1 or (len(spaced) == 2 and spaced[1:] == alone)
        if len(alone) != 1 or not spaced_is_one:
            split[term] = [len(alone), len(spaced)]
    message = f"{len(terms) - len(split)} of {len(terms)} required terms are one token, alone and after a space."
    if split:
        message += " Tokens alone and after a space: " + ", ".join(f"{term} {n}" for term, n in split.items()) + "."
    return CheckResult("required_terms_are_single_tokens", not split, message)


def check_only_joins(
    base: "PreTrainedTokenizerBase",
    tokenizer: "PreTrainedTokenizerBase",
    new_tokens: Sequence[Mapping[str, Any]],
    texts: Sequence[str],
) -> CheckResult:
    """New tokens only join what the base splits: replaced by their base_ids they give the base's encoding.

    A text without a new token is therefore encoded exactly as before.
    """
    base_ids = _base_ids(new_tokens)
    differing = 0
    untouched = 0
    for ids, ids_before in zip(encode_texts(tokenizer, texts), encode_texts(base, texts), strict=True):
        expanded = _expanded(ids, base_ids)
        differing += expanded != ids_before
        untouched += len(expanded) == len(ids)
    message = (
        f"{differing} of {len(texts)} texts are segmented otherwise than the base's segmentation joined; none may "
        f"({untouched} hold no new token)."
    )
    return CheckResult("text_without_new_merges_unchanged", differing == 0, message)


def check_reload(directory: Path, texts: Sequence[str]) -> CheckResult:
    """The files load through AutoTokenizer as written, and saving and loading again changes nothing."""
    from tokenizers import Tokenizer
    from transformers import AutoTokenizer

    loaded = AutoTokenizer.from_pretrained(directory)
    with tempfile.TemporaryDirectory() as scratch:
        loaded.save_pretrained(scratch)
        reloaded = AutoTokenizer.from_pretrained(scratch)
    written = Tokenizer.from_file(str(directory / "tokenizer.json"))
    with parallel_tokenizers():
        as_written = [encoding.ids for encoding in written.encode_batch_fast(list(texts), add_special_tokens=False)]
    again = zip(as_written, encode_texts(loaded, texts), encode_texts(reloaded, texts), strict=True)
    differing = sum(not before == now == later for before, now, later in again)
    vocabularies_agree = loaded.get_vocab() == reloaded.get_vocab() == written.get_vocab(with_added_tokens=True)
    templates_agree = loaded.chat_template == reloaded.chat_template
    message = (
        f"{differing} of {len(texts)} texts encode otherwise after loading or after saving again; none may. "
        f"Vocabulary {'kept' if vocabularies_agree else 'changed'}, chat template "
        f"{'kept' if templates_agree else 'changed'}."
    )
    return CheckResult("loads_and_saves_unchanged", differing == 0 and vocabularies_agree and templates_agree, message)


def _base_ids(new_tokens: Sequence[Mapping[str, Any]]) -> dict[int, list[int]]:
    """New id -> the base tokens that it joins."""
    return {token["id"]: token["base_ids"] for token in new_tokens}


def _expanded(ids: Sequence[int], base_ids: Mapping[int, Sequence[int]]) -> list[int]:
    """`ids` with every new token replaced by what it joins."""
    return [base_id for token_id in ids for base_id in base_ids.get(token_id, (token_id,))]
