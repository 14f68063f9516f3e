"""domain_tokenizer: the base tokenizer with merges learned on the train split, and its fertility report."""

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from smartdevdigest_ops.corpus.read import read_split
from smartdevdigest_ops.models.terms import carry_terms
from smartdevdigest_ops.settings import TokenizerSettings
from smartdevdigest_ops.stage import Check, Stage, StageContext, StageReport
from smartdevdigest_ops.tokenizer.checks import (
    check_base_ids,
    check_digits_and_indentation,
    check_no_dead_tokens,
    check_only_joins,
    check_reload,
    check_required_terms,
    check_round_trip,
    check_special_tokens_and_chat,
)
from smartdevdigest_ops.tokenizer.dead_tokens import TokenUse, token_use
from smartdevdigest_ops.tokenizer.extend import Extension, extend_tokenizer, say_merges
from smartdevdigest_ops.tokenizer.fertility import Fertility, fertility_table, measure_fertility
from smartdevdigest_ops.tokenizer.pre_tokens import stream_split
from smartdevdigest_ops.tokenizer.round_trip import PROBE_TEXTS

HELD_OUT_SPLITS = ("valid", "test")


def make_domain_tokenizer(context: StageContext) -> StageReport:
    """Learn on the train split, write, and measure on documents that were not learned from."""
    from transformers import AutoTokenizer

    start = time.perf_counter()
    settings: TokenizerSettings = context.settings.tokenizer
    base_dir = context.input("base_model").path
    corpus_dir = context.input("corpus_snapshot").path
    extension = extend_tokenizer(base_dir, stream_split(corpus_dir, "train"), settings, context.out)
    carry_terms(base_dir, context.out, "the tokenizer's vocabulary was extended.")
    seconds = time.perf_counter() - start
    new_tokens = json.loads((context.out / "new_tokens.json").read_text(encoding="utf-8"))
    said = say_merges(extension, settings)
    num_required = len(new_tokens) - extension.num_learned
    context.log(f"{said} {num_required} tokens more for required terms. {seconds:.1f} s")

    held_out = [row for split in HELD_OUT_SPLITS for row in read_split(corpus_dir, split)]
    texts = [*PROBE_TEXTS, *(row["content"] for row in held_out)]
    base, tokenizer = AutoTokenizer.from_pretrained(base_dir), AutoTokenizer.from_pretrained(context.out)
    fertility = measure_fertility(base, tokenizer, held_out)
    (context.out / "fertility.json").write_text(
        json.dumps({kind: total.as_json() for kind, total in fertility.items()}, indent=2) + "\n", encoding="utf-8"
    )
    use = _use_of_new_tokens(context.out, new_tokens, extension)
    return StageReport(
        metrics={
            "num_new_tokens": len(new_tokens),
            "num_learned": extension.num_learned,
            "num_steps": len(use.steps),
            "seconds": seconds,
        }
        | _bytes_per_token(fertility),
        checks=(
            check_round_trip(tokenizer, texts),
            check_base_ids(base, tokenizer),
            check_special_tokens_and_chat(base, tokenizer, new_tokens),
            check_required_terms(tokenizer, settings.required_terms),
            check_only_joins(base, tokenizer, new_tokens, texts),
            check_digits_and_indentation(base, tokenizer),
            check_no_dead_tokens(use),
            check_reload(context.out, texts),
        ),
        notes={"markdown": fertility_table(fertility), "merges": said},
    )


def _use_of_new_tokens(out: Path, new_tokens: Sequence[Mapping[str, Any]], extension: Extension) -> TokenUse:
    tree = json.loads((out / "tokenizer.json").read_text(encoding="utf-8"))
    symbols = [token["token"] for token in new_tokens]
    pre_tokens = extension.counts.num_documents if extension.counts else ()
    return token_use(tree, symbols, pre_tokens, required=symbols[extension.num_learned :])


def _bytes_per_token(fertility: Mapping[str, Fertility]) -> dict[str, float]:
    metrics = {}
    for kind in ("ko", "en", "code"):
        if kind in fertility:
            row = fertility[kind].as_json()
            metrics[f"bytes_per_token_{kind}_before"] = row["bytes_per_token_before"]
            metrics[f"bytes_per_token_{kind}_after"] = row["bytes_per_token_after"]
    return metrics


STAGE = Stage(
    name="domain_tokenizer",
    make=make_domain_tokenizer,
    code_version="2",
    inputs=("base_model", "corpus_snapshot"),
    settings=("tokenizer",),
    checks=(
        Check("round_trip_exact", "Held-out documents come back exactly from encode and decode."),
        Check("base_tokens_keep_their_ids", "No token of the base moved, special tokens included."),
        Check("special_tokens_and_chat_template_unchanged", "Special tokens and conversations are as before."),
        Check("required_terms_are_single_tokens", "Each required term is one token, alone and after a space."),
        Check("text_without_new_merges_unchanged", "New tokens only join what the base splits."),
        Check("digits_and_indentation_unchanged", "Numbers and white space are encoded as the base does."),
        Check("no_dead_tokens", "Each new token is produced on the train split, or leads to one that is."),
        Check("loads_and_saves_unchanged", "AutoTokenizer loads the files as written, and saving keeps them."),
    ),
    own_process=True,
)
