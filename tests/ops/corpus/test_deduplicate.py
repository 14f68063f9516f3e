"""Which versions survive, what losers name, and that the bands find what a comparison of all pairs finds."""

import random
from collections.abc import Sequence

import numpy as np
import pytest

from smartdevdigest_ops.corpus.deduplicate import Resolution, Version, resolve_duplicates
from smartdevdigest_ops.corpus.normalise import fold
from smartdevdigest_ops.corpus.shingles import band_hashes, jaccard, shingle_hashes
from smartdevdigest_ops.settings import CorpusSettings

SETTINGS = CorpusSettings()
WORDS = (
    *("pod", "node", "scheduler", "container", "network", "volume", "cluster", "service", "label", "selector"),
    *("파드", "노드", "스케줄러", "컨테이너", "네트워크", "볼륨을", "클러스터의", "서비스는", "레이블과", "배포한다"),
)


def text(seed: int, num_words: int = 400) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=num_words))


def resolve(*documents: tuple[str, str], pinned: Sequence[str] = ()) -> Resolution:
    """Resolve (URL, content) pairs in drop order."""
    shingles = [shingle_hashes(content, SETTINGS.shingle_characters) for _, content in documents]
    bands = np.stack([band_hashes(each, SETTINGS) for each in shingles])
    versions = [Version(url, fold(content), len(content), f"line {n}") for n, (url, content) in enumerate(documents)]
    return resolve_duplicates(versions, bands, lambda index: shingles[index], similarity=0.8, pinned=frozenset(pinned))


def outcome(resolution: Resolution) -> dict[int, tuple[str, int]]:
    return {index: (loss.reason, loss.match) for index, loss in sorted(resolution.losses.items())}


def test_jaccard_of_shingles_is_that_of_the_character_windows() -> None:
    left, right = shingle_hashes("abcdef", 3), shingle_hashes("ABCDxy", 3)
    assert (len(left), len(right)) == (4, 4)
    assert jaccard(left, right) == 2 / 6
    assert len(shingle_hashes("", 3)) == 0
    assert jaccard(shingle_hashes("ab", 3), shingle_hashes("a  b", 3)) == 0.0
    assert jaccard(shingle_hashes("ab", 3), shingle_hashes(" AB\n", 3)) == 1.0


def test_unlike_documents_all_survive_in_clusters_of_their_own() -> None:
    resolution = resolve(("a", text(1)), ("b", text(2)), ("c", text(3)))
    assert resolution.losses == {}
    assert resolution.clusters == {"a": "a", "b": "b", "c": "c"}


def test_the_newest_version_of_a_url_supersedes_and_unchanged_content_keeps_the_first() -> None:
    assert outcome(resolve(("a", text(1)), ("a", text(2)))) == {0: ("superseded", 1)}
    assert outcome(resolve(("a", text(1)), ("a", text(1).upper()))) == {1: ("exact_duplicate", 0)}
    assert outcome(resolve(("a", text(1)), ("a", text(2)), ("a", text(1)))) == {
        0: ("superseded", 1),
        1: ("superseded", 2),
    }


def test_the_same_text_at_another_url_is_an_exact_duplicate_of_the_earlier() -> None:
    assert outcome(resolve(("a", text(1)), ("b", text(1).replace(" ", "\n")))) == {1: ("exact_duplicate", 0)}


@pytest.mark.parametrize("extra", ["one more sentence at its end", "끝에 덧붙인 한 문장"])
def test_of_two_near_duplicates_the_longer_survives_and_keeps_the_clusters_first_url(extra: str) -> None:
    short, long = text(1), f"{text(1)} {extra}"
    later_is_longer, later_is_shorter = resolve(("a", short), ("b", long)), resolve(("a", long), ("b", short))
    assert outcome(later_is_longer) == {0: ("near_duplicate", 1)}
    assert outcome(later_is_shorter) == {1: ("near_duplicate", 0)}
    assert later_is_longer.clusters == later_is_shorter.clusters == {"a": "a", "b": "a"}
    expected = jaccard(shingle_hashes(short, 13), shingle_hashes(long, 13))
    assert later_is_longer.losses[0].similarity == expected >= 0.8


def test_below_the_bound_both_survive() -> None:
    half = text(1, 200)
    assert outcome(resolve(("a", f"{half} {text(2, 200)}"), ("b", f"{half} {text(3, 200)}"))) == {}


def test_what_stood_behind_a_superseded_version_comes_back_in_its_cluster() -> None:
    resolution = resolve(("a", f"{text(1)} pod"), ("b", text(1)), ("a", text(2)))
    assert outcome(resolution) == {0: ("superseded", 2)}
    assert resolution.clusters == {"a": "a", "b": "a"}


def test_an_old_version_does_not_come_back_when_its_page_has_a_newer_one() -> None:
    resolution = resolve(("a", f"{text(1)} pod"), ("b", text(1)), ("b", text(3)), ("a", text(2)))
    assert outcome(resolution) == {0: ("superseded", 3), 1: ("superseded", 2)}


def test_a_url_keeps_its_cluster_whatever_becomes_of_its_matches() -> None:
    before = resolve(("a", text(1)), ("b", text(2)))
    after = resolve(("a", text(1)), ("b", text(2)), ("c", f"{text(2)} pod"), ("b", text(9)), ("a", f"{text(9)} pod"))
    assert {url: after.clusters[url] for url in before.clusters} == before.clusters
    assert after.clusters["c"] == "b"
    assert outcome(after) == {0: ("superseded", 4), 1: ("near_duplicate", 2), 3: ("near_duplicate", 4)}


def test_a_text_that_replaces_several_joins_the_pinned_ones_cluster_first() -> None:
    # 0.87 of the long one each, 0.74 in common.
    both = " ".join(str(random.Random(1).randrange(10**9, 10**10) + n**5) for n in range(300))
    edge = len(both) * 13 // 100
    documents = (("a", both[:-edge]), ("b", both[edge:]), ("c", both))
    plain, pinned = resolve(*documents), resolve(*documents, pinned=["b"])
    assert outcome(plain) == outcome(pinned) == {0: ("near_duplicate", 2), 1: ("near_duplicate", 2)}
    assert (plain.clusters["c"], pinned.clusters["c"]) == ("a", "b")


def test_the_bands_find_what_comparing_all_pairs_finds() -> None:
    random_ = random.Random(5)
    contents = []
    for seed in range(30):
        words = text(seed, 300).split()
        contents.append(" ".join(words))
        changed = [random_.choice(WORDS) if random_.random() < 0.02 else word for word in words]
        contents.append(" ".join(changed))
    resolution = resolve(*((str(n), content) for n, content in enumerate(contents)))
    survivors = [n for n in range(len(contents)) if n not in resolution.losses]
    shingles = {n: shingle_hashes(contents[n], 13) for n in survivors}
    alike = [(i, j) for i in survivors for j in survivors if i < j and jaccard(shingles[i], shingles[j]) >= 0.8]
    assert alike == []
    assert len(resolution.losses) >= 20
    assert all(loss.similarity >= 0.8 and loss.match in survivors for loss in resolution.losses.values())
