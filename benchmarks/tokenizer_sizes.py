"""How much a domain tokenizer saves, by the number of its merges, by how words vote, and by kind of text.

    python -m benchmarks.tokenizer_sizes --tokenizer DIR --plot docs/tokenizer_sizes.png DROPS...
    python -m benchmarks.tokenizer_sizes --tokenizer DIR --compare DROPS...

One document in twenty (by the hash of its address) is held out; the merges are learned on the others. A tokenizer with
fewer merges is the beginning of the one with the most, so the corpus is counted once and each rule learns once.
`--compare` sets the rules for votes side by side: as the corpus has them, evened out by half (the setting's default)
and fully, with a vote for every word however rare, and without merges across Korean morphemes.

Sizes only: bits per byte after equal training time are measured by `tokenizer_tradeoff.py`.
"""

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.environment import environment_lines
from smartdevdigest_ops.artifacts import content_hash
from smartdevdigest_ops.contracts import CrawlRecord
from smartdevdigest_ops.drops.files import read_drop
from smartdevdigest_ops.settings import TokenizerSettings
from smartdevdigest_ops.tokenizer.base import Bpe, open_base
from smartdevdigest_ops.tokenizer.learn import learn_merges
from smartdevdigest_ops.tokenizer.morphemes import MorphemeCut
from smartdevdigest_ops.tokenizer.pre_tokens import PreTokenCounts
from smartdevdigest_ops.tokenizer.votes import Votes, collect_votes
from smartdevdigest_ops.tokenizer.write import extended_tree

if TYPE_CHECKING:
    from smartdevdigest_ops.tokenizer.merges import MergeTable

SIZES = (0, 300, 500, 1000, 2000, 4000, 8000)
KINDS = ("ko", "en", "code")
_HELD_OUT_ONE_IN = 20  # the documents that m1.py and m1_curve.py hold out
_HANGUL_SHARE = 0.15
DEFAULT = "balanced"
RULES: dict[str, dict[str, Any]] = {
    "as the corpus has them": {"balance": 0.0},
    DEFAULT: {},
    "evened out": {"balance": 1.0},
    "every word": {"min_documents": 1},
    "morphemes": {"korean_morphemes": True},
}
_COLORS = {"ko": "#4477aa", "en": "#ee6677", "code": "#228833"}


def read_counts(base: Bpe, drops: Sequence[Path]) -> tuple[PreTokenCounts, PreTokenCounts]:
    """Pre-tokens to learn from and held out, documents with an address seen before left out."""
    from tqdm import tqdm

    train, held_out = PreTokenCounts(), PreTokenCounts()
    for row in tqdm(_rows(drops), unit="document", mininterval=1.0):
        is_train = int(content_hash(row["url"])[:8], 16) % _HELD_OUT_ONE_IN
        (train if is_train else held_out).add(base, row)
    return train, held_out


def _rows(drops: Sequence[Path]) -> Iterator[dict[str, Any]]:
    from benchmarks.paragraphs import hangul_share

    seen: set[str] = set()
    for drop in drops:
        for _, record in read_drop(drop):
            if isinstance(record, CrawlRecord) and record.url not in seen:
                seen.add(record.url)
                # By script, not by what the site says: untranslated pages of Korean sites are English.
                language = "ko" if hangul_share(record.content) > _HANGUL_SHARE else "en"
                yield {"url": record.url, "title": record.title, "content": record.content, "language": language}


def learn(base: Bpe, counts: PreTokenCounts, num_merges: int, rule: Mapping[str, Any]) -> "tuple[MergeTable, Votes]":
    """The merges that a rule learns, without the limit of tokenizer.min_gain."""
    settings = TokenizerSettings(num_new_tokens=num_merges, min_gain=0.0, **rule)
    votes = collect_votes(
        base,
        counts,
        min_documents=settings.min_documents,
        balance=settings.balance,
        cut=MorphemeCut(base) if settings.korean_morphemes else None,
    )
    table = learn_merges(
        base,
        votes.segments,
        num_new_tokens=num_merges,
        min_votes=settings.min_frequency,
        max_token_characters=settings.max_token_characters,
    )
    return table, votes


def tokens_by_kind(tree: dict[str, Any], counts: PreTokenCounts) -> dict[str, int]:
    """Tokens that the tokenizer of a `tokenizer.json` makes of each kind of text."""
    from tokenizers import Tokenizer

    model = Tokenizer.from_str(json.dumps(tree)).model
    return {
        kind: sum(count * len(model.tokenize(word)) for word, count in counts.by_kind[kind].items()) for kind in KINDS
    }


def sizes_of(table: "MergeTable", held_out: PreTokenCounts, sizes: Sequence[int]) -> dict[int, dict[str, int]]:
    """Number of merges -> kind -> tokens of the held-out text."""
    reached = [size for size in sizes if size <= len(table.merges)]
    return {size: tokens_by_kind(extended_tree(table, size), held_out) for size in reached}


def print_table(name: str, found: Mapping[int, Mapping[str, int]], num_bytes: Mapping[str, int]) -> None:
    """Bytes per token and the change of the token count, by size."""
    print(f"\nVotes: {name}\n")
    print("| merges | " + " | ".join(f"{kind} bytes/token | tokens" for kind in KINDS) + " |")
    print("|---:|" + "---:|---:|" * len(KINDS))
    base = found[0]
    for size, tokens in found.items():
        cells = (f"{num_bytes[kind] / tokens[kind]:.3f} | {tokens[kind] / base[kind] - 1:+.1%}" for kind in KINDS)
        print(f"| {size:,} | " + " | ".join(cells) + " |")


def plot(found: Mapping[int, Mapping[str, int]], path: Path) -> None:
    """Tokens of each kind relative to the base's, against the number of merges."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axis = plt.subplots(figsize=(7, 4.2), constrained_layout=True)
    for kind in KINDS:
        shares = [100 * tokens[kind] / found[0][kind] for tokens in found.values()]
        axis.plot(list(found), shares, marker="o", markersize=3, color=_COLORS[kind])
        axis.annotate(kind, (list(found)[-1], shares[-1]), xytext=(6, -3), textcoords="offset points")
    axis.set(xlabel="merges learned", ylabel="tokens of held-out text, % of the base's", ylim=(0, 105))
    axis.grid(alpha=0.3)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)


def main() -> None:
    """Measure and print Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("drops", nargs="+", type=Path)
    parser.add_argument("--tokenizer", type=Path, required=True, help="directory with tokenizer.json")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--compare", action="store_true", help="all rules for votes, not the default alone")
    parser.add_argument("--plot", type=Path, help="PNG file to write")
    parser.add_argument("--out", type=Path, help="file for the readings (JSON)")
    options = parser.parse_args()
    sizes = sorted({0, *options.sizes})
    print("\n".join(environment_lines(("tokenizers", "kiwipiepy"))))
    base = open_base(options.tokenizer)
    train, held_out = read_counts(base, options.drops)
    num_bytes = {
        kind: sum(len(base.data(word)) * count for word, count in held_out.by_kind[kind].items()) for kind in KINDS
    }
    by_rule: dict[str, dict[int, dict[str, int]]] = {}
    for name, rule in RULES.items() if options.compare else [(DEFAULT, RULES[DEFAULT])]:
        table, votes = learn(base, train, sizes[-1], rule)
        by_rule[name] = sizes_of(table, held_out, sizes)
        weights = ", ".join(f"{kind} {weight:.2f}" for kind, weight in votes.weights.items())
        said = f"{len(votes.segments):,} different words vote; an occurrence has {weights} votes"
        print_table(f"{name} ({said})", by_rule[name], num_bytes)
    if options.plot:
        plot(by_rule[DEFAULT], options.plot)
    if options.out:
        options.out.write_text(json.dumps({"num_bytes": num_bytes, "tokens": by_rule}, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
