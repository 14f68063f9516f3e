"""domain_tokenizer: the base tokenizer with merges learned on the train split, and its fertility report."""

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from smartdevdigest_ops.corpus.read import read_split
from smartdevdigest_ops.settings import TokenizerSettings
from smartdevdigest_ops.stage import Check, Stage, StageContext, StageReport
from smartdevdigest_ops.tokenizer.base import BaseBpe
from smartdevdigest_ops.tokenizer.checks import (
    check_base_ids,
    check_only_joins,
    check_reload,
    check_required_terms,
    check_round_trip,
)
from smartdevdigest_ops.tokenizer.fertility import Fertility, fertility_table, measure_fertility
from smartdevdigest_ops.tokenizer.learn import count_pre_tokens, learn_merges
from smartdevdigest_ops.tokenizer.merges import MergeTable, add_required_terms
from smartdevdigest_ops.tokenizer.round_trip import PROBE_TEXTS
from smartdevdigest_ops.tokenizer.write import copy_base_tokenizer, write_extended_tokenizer

HELD_OUT_SPLITS = ("valid", "test")


def make_domain_tokenizer(context: StageContext) -> StageReport:
    """Learn on the train split, write, and measure on documents that were not learned from."""
    from transformers import AutoTokenizer

    start = time.perf_counter()
    settings: TokenizerSettings = context.settings.tokenizer
    base_dir = context.input("base_model").path
    corpus_dir = context.input("corpus_snapshot").path
    num_learned = extend_tokenizer(base_dir, read_split(corpus_dir, "train"), settings, context.out)
    seconds = time.perf_counter() - start
    new_tokens = json.loads((context.out / "new_tokens.json").read_text(encoding="utf-8"))
    context.log(
        f"{len(new_tokens)} new tokens in {seconds:.1f} s: {num_learned} of {settings.num_new_tokens} asked for from "
        f"the corpus, {len(new_tokens) - num_learned} for required terms"
    )

    held_out = [row for split in HELD_OUT_SPLITS for row in read_split(corpus_dir, split)]
    texts = [*PROBE_TEXTS, *(row["content"] for row in held_out)]
    base, tokenizer = AutoTokenizer.from_pretrained(base_dir), AutoTokenizer.from_pretrained(context.out)
    fertility = measure_fertility(base, tokenizer, held_out)
    (context.out / "fertility.json").write_text(
        json.dumps({kind: total.as_json() for kind, total in fertility.items()}, indent=2) + "\n", encoding="utf-8"
    )
    return StageReport(
        metrics={"num_new_tokens": len(new_tokens), "seconds": seconds} | _bytes_per_token(fertility),
        checks=(
            check_round_trip(tokenizer, texts),
            check_base_ids(base, tokenizer),
            check_required_terms(tokenizer, settings.required_terms),
            check_only_joins(base, tokenizer, new_tokens, texts),
            check_reload(context.out, texts),
        ),
        notes={"markdown": fertility_table(fertility), "merges": _say_merges(num_learned, settings)},
    )


def extend_tokenizer(
    base_dir: Path, documents: Sequence[Mapping[str, Any]], settings: TokenizerSettings, out: Path
) -> int:
    """Write the tokenizer that `settings` asks for, learned on `title` and `content`; returns the learned merges.

    With no new tokens and no required terms the base is copied, whatever kind it is.

    Raises:
        TokenizerError: the base is no byte-level BPE, or a required term cannot be one token.
    """
    if settings.num_new_tokens == 0 and not settings.required_terms:
        copy_base_tokenizer(base_dir, out)
        return 0
    base = BaseBpe(base_dir)
    if settings.num_new_tokens:
        counts = count_pre_tokens(base, [f"{row['title'] or ''}\n{row['content']}" for row in documents])
        table = learn_merges(
            base,
            counts,
            num_new_tokens=settings.num_new_tokens,
            min_frequency=settings.min_frequency,
            max_token_characters=settings.max_token_characters,
        )
    else:
        table = MergeTable(base)
    num_learned = len(table.symbols)
    add_required_terms(table, settings.required_terms)
    write_extended_tokenizer(base_dir, table, out)
    return num_learned


def _bytes_per_token(fertility: Mapping[str, Fertility]) -> dict[str, float]:
    metrics = {}
    for kind in ("ko", "en", "code"):
        if kind in fertility:
            row = fertility[kind].as_json()
            metrics[f"bytes_per_token_{kind}_before"] = row["bytes_per_token_before"]
            metrics[f"bytes_per_token_{kind}_after"] = row["bytes_per_token_after"]
    return metrics


def _say_merges(num_learned: int, settings: TokenizerSettings) -> str:
    said = f"{num_learned} of {settings.num_new_tokens} merges learned."
    if num_learned < settings.num_new_tokens:
        said += (
            f" No further pair occurs {settings.min_frequency} times in the train split; a larger corpus or a lower "
            "tokenizer.min_frequency gives more."
        )
    return said


STAGE = Stage(
    name="domain_tokenizer",
    make=make_domain_tokenizer,
    code_version="1",
    inputs=("base_model", "corpus_snapshot"),
    settings=("tokenizer",),
    checks=(
        Check("round_trip_exact", "Held-out documents come back exactly from encode and decode."),
        Check("base_tokens_keep_their_ids", "No token of the base moved, special tokens included."),
        Check("required_terms_are_single_tokens", "Each required term is one token, alone and after a space."),
        Check("text_without_new_merges_unchanged", "New tokens only join what the base splits."),
        Check("loads_and_saves_unchanged", "AutoTokenizer loads the files as written, and saving keeps them."),
    ),
    own_process=True,
)
