"""The gates of a domain tokenizer: what an extension must leave as it was, and what it promised."""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smartdevdigest_ops.stage import CheckResult
from smartdevdigest_ops.tokenizer.round_trip import excerpt_of_difference, round_trip_failures

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


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
    base_ids = {token["id"]: token["base_ids"] for token in new_tokens}
    differing = 0
    untouched = 0
    for text in texts:
        ids = tokenizer.encode(text, add_special_tokens=False, verbose=False)
        expanded = [base_id for token_id in ids for base_id in base_ids.get(token_id, (token_id,))]
        differing += expanded != base.encode(text, add_special_tokens=False, verbose=False)
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
    differing = 0
    for text in texts:
        ids = written.encode(text, add_special_tokens=False).ids
        differing += any(
            ids != again.encode(text, add_special_tokens=False, verbose=False) for again in (loaded, reloaded)
        )
    vocabularies_agree = loaded.get_vocab() == reloaded.get_vocab() == written.get_vocab(with_added_tokens=True)
    templates_agree = loaded.chat_template == reloaded.chat_template
    message = (
        f"{differing} of {len(texts)} texts encode otherwise after loading or after saving again; none may. "
        f"Vocabulary {'kept' if vocabularies_agree else 'changed'}, chat template "
        f"{'kept' if templates_agree else 'changed'}."
    )
    return CheckResult("loads_and_saves_unchanged", differing == 0 and vocabularies_agree and templates_agree, message)
