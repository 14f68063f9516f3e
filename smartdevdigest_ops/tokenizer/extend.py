"""The base tokenizer extended as the settings ask: count, weigh, learn, add required terms, write.

How many merges are worth a token follows from what they save. Measured on 31 MB of Korean and English documentation
(tokenizer.balance 0.5), the share of all tokens that a merge saves by its rank:

| base | 1 | 100 | 300 | 1,000 | 2,000 |
|---|---|---|---|---|---|
| SmolLM2 (1.4 bytes a Korean token) | 4.0e-3 | 5.2e-4 | 2.1e-4 | 4.8e-5 | 1.9e-5 |
| Gemma 3 (4.3 bytes a Korean token) | 6.2e-4 | 7.8e-5 | 4.2e-5 | 1.9e-5 | 1.1e-5 |

A merge with the share g makes a token that M1 trains once in 1/g tokens: with 5e-5, the default of tokenizer.min_gain,
once in 20,000. There Gemma stops before 300 merges and SmolLM2 before 1,000. What its row costs in computation would
allow more: it is 1/230,000 of SmolLM2's parameters, so 4e-6.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smartdevdigest_ops.settings import TokenizerSettings
from smartdevdigest_ops.tokenizer.base import Bpe, open_base
from smartdevdigest_ops.tokenizer.dead_tokens import without_dead_tokens
from smartdevdigest_ops.tokenizer.learn import learn_merges
from smartdevdigest_ops.tokenizer.merges import MergeTable, add_required_terms
from smartdevdigest_ops.tokenizer.morphemes import MorphemeCut
from smartdevdigest_ops.tokenizer.pre_tokens import PreTokenCounts, count_pre_tokens
from smartdevdigest_ops.tokenizer.votes import Votes, collect_votes
from smartdevdigest_ops.tokenizer.write import copy_base_tokenizer, write_extended_tokenizer


@dataclass(frozen=True)
class Extension:
    """What was learned and from what."""

    counts: PreTokenCounts | None = None
    """Of the train split; None where nothing was to be learned."""
    num_learned: int = 0
    min_votes: float = 0.0
    """What a pair needed, by tokenizer.min_gain and tokenizer.min_frequency."""
    votes: Votes | None = None


def extend_tokenizer(
    base_dir: Path, documents: Iterable[Mapping[str, Any]], settings: TokenizerSettings, out: Path
) -> Extension:
    """Write the tokenizer that `settings` asks for, learned on `title` and `content` of rows with a `language`.

    Where there is nothing to add (none asked for, or none worth it) the base is copied, whatever kind it is.

    Raises:
        TokenizerError: the base is no BPE that can be continued, or a required term cannot be one token.
    """
    if settings.num_new_tokens == 0 and not settings.required_terms:
        copy_base_tokenizer(base_dir, out)
        return Extension()
    base = open_base(base_dir)
    extension, table = learn(base, documents, settings) if settings.num_new_tokens else (Extension(), MergeTable(base))
    add_required_terms(table, settings.required_terms)
    if table.merges:
        write_extended_tokenizer(base_dir, table, out)
    else:
        copy_base_tokenizer(base_dir, out)
    return extension


def learn(
    base: Bpe, documents: Iterable[Mapping[str, Any]], settings: TokenizerSettings
) -> tuple[Extension, MergeTable]:
    """The merges of a corpus that are worth a token each."""
    counts = count_pre_tokens(base, documents)
    votes = collect_votes(
        base,
        counts,
        min_documents=settings.min_documents,
        weights=settings.weights,
        balance=settings.balance,
        cut=MorphemeCut(base) if settings.korean_morphemes else None,
    )
    min_votes = max(float(settings.min_frequency), settings.min_gain * votes.num_tokens)
    table = learn_merges(
        base,
        votes.segments,
        num_new_tokens=settings.num_new_tokens,
        min_votes=min_votes,
        max_token_characters=settings.max_token_characters,
    )
    if settings.korean_morphemes:  # merges that no whole word is encoded with
        table = without_dead_tokens(table, counts.num_documents)
    return Extension(counts, len(table.symbols), min_votes, votes), table


def say_merges(extension: Extension, settings: TokenizerSettings) -> str:
    """How many of the merges asked for were learned, and why no more."""
    said = f"{extension.num_learned:,} of {settings.num_new_tokens:,} merges learned."
    if extension.votes is None or extension.num_learned >= settings.num_new_tokens:
        return said
    if extension.min_votes > settings.min_frequency:
        said += (
            f" A further one would save less than {settings.min_gain:.4%} of the train split's tokens "
            f"(tokenizer.min_gain: {extension.min_votes:,.0f} votes) and is not worth a token."
        )
        if not extension.num_learned:
            said += " The base tokenizer speaks the languages of this corpus and stays as it is."
        return said
    return said + (
        f" No further pair has {settings.min_frequency} votes; a larger corpus or a lower tokenizer.min_frequency "
        "gives more."
    )
