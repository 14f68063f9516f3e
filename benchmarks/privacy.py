"""How well private matter is found, and what masking costs and finds on real drops.

    python -m benchmarks.privacy [DROPS...] [--show 30]

prints a Markdown table of precision and recall by kind on the labelled cases of the tests (exact bounds), each case
that went wrong, and for the drops: findings per 1,000 documents by kind, and milliseconds per document. `--show` prints
so many findings of each kind with the text around them, drawn with a seed: the way to see what is masked for nothing.
"""

import argparse
import random
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.environment import environment_lines
from benchmarks.privacy_cases import Score, read_cases, score_cases
from smartdevdigest_ops.contracts import CrawlRecord
from smartdevdigest_ops.corpus.normalise import normalise_text
from smartdevdigest_ops.corpus.privacy import find_private, mask_private
from smartdevdigest_ops.drops.files import read_drop
from smartdevdigest_ops.settings.corpus import PrivacySettings, PrivateKind

CASES = Path(__file__).parent.parent / "tests" / "ops" / "corpus" / "privacy_cases.jsonl"
_SETTINGS = PrivacySettings()
_AROUND = 40


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description="Precision, recall and cost of masking private matter.")
    parser.add_argument("drops", nargs="*", type=Path, help="drops of real documents")
    parser.add_argument("--show", type=int, default=0, metavar="N", help="findings of each kind to print")
    arguments = parser.parse_args()
    print(*environment_lines(), "", sep="\n")
    print(*case_lines(score_cases(read_cases(CASES), _SETTINGS)), sep="\n")
    if arguments.drops:
        texts = list(_texts(arguments.drops))
        print("", *drop_lines(texts), sep="\n")
        if arguments.show:
            print("", *shown_lines(texts, arguments.show), sep="\n")


def case_lines(scores: dict[PrivateKind, Score]) -> list[str]:
    """Markdown table by kind, then what went wrong."""
    lines = ["| kind | marked | found | precision | recall |", "|---|---:|---:|---:|---:|"]
    for kind, score in scores.items():
        lines.append(
            f"| {kind} | {score.num_marked} | {score.num_found} | {score.precision:.3f} | {score.recall:.3f} |"
        )
    wrong = [f"- {kind} {each}" for kind, score in scores.items() for each in score.wrong]
    return [*lines, "", *(each.replace("\n", "⏎") for each in wrong)]


def drop_lines(texts: Sequence[str]) -> list[str]:
    """Markdown table of findings by kind, and the time that masking takes."""
    for text in texts[:50]:
        mask_private(text, _SETTINGS)
    counts: Counter[PrivateKind] = Counter()
    documents: Counter[PrivateKind] = Counter()
    milliseconds = []
    for text in texts:
        started = time.process_time()
        masked = mask_private(text, _SETTINGS)
        milliseconds.append((time.process_time() - started) * 1000)
        counts.update(masked.counts)
        documents.update(masked.counts.keys())
    thousands = len(texts) / 1000
    lines = ["| kind | findings | per 1,000 documents | documents with any |", "|---|---:|---:|---:|"]
    for kind, count in counts.most_common():
        lines.append(f"| {kind} | {count} | {count / thousands:.1f} | {documents[kind]} |")
    characters = sum(map(len, texts))
    return [
        *lines,
        "",
        f"{len(texts)} documents of {characters / len(texts):.0f} characters on average: "
        f"{statistics.mean(milliseconds):.2f} ms per document (median {statistics.median(milliseconds):.2f}, longest "
        f"{max(milliseconds):.1f}), {sum(milliseconds) / characters * 9000:.2f} ms per 9,000 characters.",
    ]


def shown_lines(texts: Sequence[str], count: int) -> list[str]:
    """So many findings of each kind with the text around them."""
    shown: dict[PrivateKind, list[str]] = defaultdict(list)
    for text in texts:
        for each in find_private(text, _SETTINGS):
            before, after = text[max(0, each.start - _AROUND) : each.start], text[each.end : each.end + _AROUND]
            shown[each.kind].append(f"{before}«{text[each.start : each.end]}»{after}".replace("\n", "⏎"))
    lines = []
    for kind, found in shown.items():
        distinct = sorted(set(found))
        lines += ["", f"{kind}:", *random.Random(17).sample(distinct, min(count, len(distinct)))]
    return lines


def _texts(drops: Sequence[Path]) -> Iterator[str]:
    for drop in drops:
        for _, record in read_drop(drop):
            if isinstance(record, CrawlRecord):
                yield normalise_text(record.content)


if __name__ == "__main__":
    main()
