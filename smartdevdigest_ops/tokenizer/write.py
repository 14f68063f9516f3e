"""The extended tokenizer as files that AutoTokenizer loads, and as new_tokens.json."""

import json
import shutil
from pathlib import Path
from typing import Any

from smartdevdigest_ops.tokenizer.merges import MergeTable

# Besides tokenizer.json. Not vocab.json, merges.txt or tokenizer.model: they say the same in older formats and would
# still say it without the new tokens.
_COMPANIONS = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "chat_template.jinja")
_OLDER_FORMATS = ("vocab.json", "merges.txt", "tokenizer.model")


def extended_tree(table: MergeTable, num_merges: int | None = None) -> dict[str, Any]:
    """`tokenizer.json` of the base with the first `num_merges` learned merges; None: with all.

    New ids start after the base's last, added tokens included, so no id moves.
    """
    tree = dict(table.base.tree)
    model: dict[str, Any] = dict(tree["model"])
    merges = table.merges[:num_merges]
    symbols = {table.symbol(left) + table.symbol(right) for left, right in merges}
    new = {symbol: token_id for token_id, symbol in table.symbols.items() if symbol in symbols}
    # tokenizers numbers added tokens that are not in the vocabulary by its size, which grows here: they go in with
    # the ids they have. No merge leads to them, so nothing encodes differently.
    model["vocab"] = model["vocab"] | table.base.added | new
    pairs = [[table.symbol(left), table.symbol(right)] for left, right in merges]
    is_old_form = bool(model["merges"]) and isinstance(model["merges"][0], str)
    model["merges"] = model["merges"] + ([" ".join(pair) for pair in pairs] if is_old_form else pairs)
    return tree | {"model": model}


def write_extended_tokenizer(base_dir: Path, table: MergeTable, out: Path) -> None:
    """Write the base's tokenizer with the merges of `table` to `out`; special tokens and chat template stay."""
    tree = extended_tree(table)
    (out / "tokenizer.json").write_text(json.dumps(tree, ensure_ascii=False, indent=2), encoding="utf-8")
    _copy_present(base_dir, out, _COMPANIONS)
    write_new_tokens(table.new_tokens(), out)


def copy_base_tokenizer(base_dir: Path, out: Path) -> None:
    """The base's tokenizer as it is, of whatever kind, with an empty new_tokens.json."""
    _copy_present(base_dir, out, ("tokenizer.json", *_COMPANIONS, *_OLDER_FORMATS))
    write_new_tokens([], out)


def write_new_tokens(new_tokens: list[dict[str, Any]], out: Path) -> None:
    """`new_tokens.json`, one token a line."""
    lines = ",\n".join(json.dumps(token, ensure_ascii=False) for token in new_tokens)
    (out / "new_tokens.json").write_text(f"[{lines}]\n", encoding="utf-8")


def _copy_present(base_dir: Path, out: Path, names: tuple[str, ...]) -> None:
    for name in names:
        if (base_dir / name).is_file():
            shutil.copyfile(base_dir / name, out / name)
