"""Which versions survive, what losers name, and that the bands find what a comparison of all pairs finds."""

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from corpus_samples import write_cleaned

from smartdevdigest_ops.corpus.assemble import HeldOut, bring_up_to_date
from smartdevdigest_ops.corpus.contamination import read_gold
from smartdevdigest_ops.corpus.index import CorpusIndex
from smartdevdigest_ops.corpus.normalise import fold
from smartdevdigest_ops.corpus.read import CorpusDrop, DocumentFiles
from smartdevdigest_ops.corpus.shingles import (
    band_hashes,
    estimated_similarity,
    jaccard,
    minhash_signatures,
    shingle_hashes,
)
from smartdevdigest_ops.corpus.takedown import TakedownList
from smartdevdigest_ops.settings import CorpusSettings, DuplicateSettings

SETTINGS = CorpusSettings()
WORDS = (
    *("pod", "node", "scheduler", "container", "network", "volume", "cluster", "service", "label", "selector"),
    *("파드", "노드", "스케줄러", "컨테이너", "네트워크", "볼륨을", "클러스터의", "서비스는", "레이블과", "배포한다"),
)


def text(seed: int, num_words: int = 400) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=num_words))


def shingles(content: str) -> Any:
    return shingle_hashes(fold(content), 13)


class Placed:
    """Drops of (page, content) placed in an index, one after the other; pages are named by their path."""

    def __init__(self, tmp_path: Path, pinned: Mapping[str, Any] = {}, taken_down: Sequence[str] = ()) -> None:
        self.directory = tmp_path
        self.drops: list[CorpusDrop] = []
        self.held_out = HeldOut(
            {url(page): split for page, split in pinned.items()},
            read_gold([]),
            TakedownList({url(page): 1 for page in taken_down}, ()),
        )
        self.index = CorpusIndex(tmp_path / "index.sqlite", "test", 64)

    def write(
        self, name: str, *documents: tuple[str, str], keys: Sequence[int] = (), language: str = "en"
    ) -> CorpusDrop:
        """Write a drop, without placing it."""
        given = {"translation_keys": list(keys), "language": language}
        rows = [{"url": url(page), "content": content} | given for page, content in documents]
        write_cleaned(self.directory / name, rows, name=name)
        return CorpusDrop(name, name, "1")

    def add(self, name: str, *documents: tuple[str, str], **given: Any) -> "Placed":
        """Write a drop and bring the index up to date."""
        self.drops.append(self.write(name, *documents, **given))
        self.apply()
        return self

    def apply(self) -> int:
        files = DocumentFiles({drop.key: self.directory / drop.key for drop in self.drops}, 126)
        return bring_up_to_date(self.index, self.drops, files, self.held_out, SETTINGS)

    def outcome(self) -> dict[int, tuple[str, int | None]]:
        """Losers: number in drop order -> (state, number of what it lost to)."""
        rows = self.index.execute("SELECT id, state, match FROM documents WHERE state != 'survivor' ORDER BY id")
        return {number: (state, match) for number, state, match in rows}

    def clusters(self) -> dict[str, str]:
        rows = self.index.execute("SELECT u.url, c.first_url FROM urls u JOIN clusters c ON c.id = u.cluster")
        return {page.rpartition("/")[2]: first.rpartition("/")[2] for page, first in rows}

    def splits(self) -> dict[str, str]:
        rows = self.index.execute("SELECT u.url, c.split FROM urls u JOIN clusters c ON c.id = u.cluster")
        return {page.rpartition("/")[2]: split for page, split in rows}

    def dump(self) -> list[Any]:
        """All that the index decided, cluster ids by their first URL."""
        return [list(self.index.decisions(drop.first_id, drop.last_id)) for drop in self.index.drops]


def url(page: str) -> str:
    return f"https://a.example/{page}"


@pytest.fixture
def placed(tmp_path: Path) -> Placed:
    return Placed(tmp_path)


def test_jaccard_of_shingles_is_that_of_the_character_windows() -> None:
    left, right = shingle_hashes("abcdef", 3), shingle_hashes("abcdxy", 3)
    assert (len(left), len(right)) == (4, 4)
    assert jaccard(left, right) == 2 / 6
    assert len(shingle_hashes("", 3)) == 0
    assert jaccard(shingle_hashes("ab", 3), shingle_hashes("ab", 3)) == 1.0


def test_unlike_documents_all_survive_in_clusters_of_their_own(placed: Placed) -> None:
    placed.add("1", ("a", text(1)), ("b", text(2)), ("c", text(3)))
    assert placed.outcome() == {}
    assert placed.clusters() == {"a": "a", "b": "b", "c": "c"}


@pytest.mark.parametrize(
    ("contents", "expected"),
    [
        ((text(1), text(2)), {0: ("superseded", 1)}),
        ((text(1), text(1).upper()), {1: ("exact_duplicate", 0)}),
        ((text(1), text(2), text(1)), {0: ("superseded", 1), 1: ("superseded", 2)}),
    ],
)
def test_the_newest_version_of_a_url_supersedes_and_unchanged_content_keeps_the_first(
    placed: Placed, contents: Sequence[str], expected: dict[int, Any]
) -> None:
    for number, content in enumerate(contents):
        placed.add(str(number), ("a", content))
    assert placed.outcome() == expected


def test_an_older_drop_that_comes_late_does_not_supersede(placed: Placed) -> None:
    placed.add("2026-02.jsonl", ("a", text(2))).add("2026-01.jsonl", ("a", text(1)), ("b", text(3)))
    assert placed.outcome() == {1: ("superseded", 0)}
    assert placed.clusters() == {"a": "a", "b": "b"}


def test_the_same_text_at_another_url_is_an_exact_duplicate_of_the_earlier(placed: Placed) -> None:
    placed.add("1", ("a", text(1)), ("b", text(1).replace(" ", "\n")))
    assert placed.outcome() == {1: ("exact_duplicate", 0)}


@pytest.mark.parametrize("extra", ["one more sentence at its end", "끝에 덧붙인 한 문장"])
@pytest.mark.parametrize("longer_comes", ["first", "later"])
def test_of_two_near_duplicates_the_longer_survives_in_the_cluster_of_the_first(
    placed: Placed, extra: str, longer_comes: str
) -> None:
    short, long = text(1), f"{text(1)} {extra}"
    first, second = (long, short) if longer_comes == "first" else (short, long)
    placed.add("1", ("a", first)).add("2", ("b", second))
    assert placed.outcome() == ({1: ("near_duplicate", 0)} if first == long else {0: ("near_duplicate", 1)})
    assert placed.clusters() == {"a": "a", "b": "a"}
    [(similarity,)] = placed.index.execute("SELECT similarity FROM documents WHERE similarity IS NOT NULL")
    assert similarity == jaccard(shingles(short), shingles(long)) >= 0.8


def test_below_the_bound_both_survive(placed: Placed) -> None:
    half = text(1, 200)
    assert placed.add("1", ("a", f"{half} {text(2, 200)}"), ("b", f"{half} {text(3, 200)}")).outcome() == {}


def test_what_stood_behind_a_superseded_version_comes_back_in_its_cluster(placed: Placed) -> None:
    placed.add("1", ("a", f"{text(1)} pod"), ("b", text(1))).add("2", ("a", text(2)))
    assert placed.outcome() == {0: ("superseded", 2)}
    assert placed.clusters() == {"a": "a", "b": "a"}


def test_an_old_version_does_not_come_back_when_its_page_has_a_newer_one(placed: Placed) -> None:
    placed.add("1", ("a", f"{text(1)} pod"), ("b", text(1))).add("2", ("b", text(3)), ("a", text(2)))
    assert placed.outcome() == {0: ("superseded", 3), 1: ("superseded", 2)}


def test_a_document_that_resembles_two_clusters_unites_them(placed: Placed) -> None:
    # 0.87 of the long one each, 0.74 in common.
    both = " ".join(str(random.Random(1).randrange(10**9, 10**10) + n**5) for n in range(300))
    edge = len(both) * 13 // 100
    placed.add("1", ("a", both[:-edge]), ("b", both[edge:])).add("2", ("c", both))
    assert placed.outcome() == {0: ("near_duplicate", 2), 1: ("near_duplicate", 2)}
    assert placed.clusters() == {"a": "a", "b": "a", "c": "a"}


def test_a_page_taken_down_binds_its_cluster_and_hides_no_other(tmp_path: Path) -> None:
    placed = Placed(tmp_path, taken_down=["b"])
    placed.add("1", ("a", text(1))).add("2", ("b", f"{text(1)} pod"), ("c", f"{text(2)}"))
    assert placed.outcome() == {1: ("taken_down", None)}
    assert placed.clusters() == {"a": "a", "b": "a", "c": "c"}
    assert placed.index.copies_of_taken_down() == []
    placed.add("3", ("d", f"{text(1)} pod"))
    assert placed.index.copies_of_taken_down() == [url("d")]


def test_drops_one_by_one_give_what_all_at_once_give(tmp_path: Path) -> None:
    random_ = random.Random(3)
    drops = []
    for number in range(6):
        documents = []
        for _ in range(20):
            page, seed = str(random_.randrange(60)), random_.randrange(30)
            words = text(seed, 200).split()
            share = random_.choice((0, 0.01))
            changed = [random_.choice(WORDS) if random_.random() < share else word for word in words]
            documents.append((page, " ".join(changed[: random_.choice((190, 200))])))
        drops.append((f"{number}.jsonl", documents))
    one_by_one, at_once = Placed(tmp_path / "one"), Placed(tmp_path / "all")
    for name, documents in drops:
        one_by_one.add(name, *documents)
        at_once.drops.append(at_once.write(name, *documents))
    assert at_once.apply() == 6
    assert one_by_one.dump() == at_once.dump()
    states = {row["state"] for drop in at_once.dump() for row in drop}
    assert states == {"survivor", "superseded", "exact_duplicate", "near_duplicate"}


def test_a_drop_that_fails_in_the_middle_leaves_the_index_as_it_was(placed: Placed) -> None:
    placed.add("1", ("a", text(1)))
    before = placed.dump()
    broken = placed.write("2", ("a", text(2)), ("b", text(3)))
    signatures = placed.directory / "2" / "signatures.u32"
    signatures.write_bytes(signatures.read_bytes()[: 126 * 4])
    placed.drops.append(broken)
    with pytest.raises(ValueError, match="argument"):
        placed.apply()
    assert placed.dump() == before
    placed.drops.pop()
    placed.add("2", ("a", text(2)), ("b", text(3)))
    assert placed.outcome() == {0: ("superseded", 1)}


def test_an_index_of_other_settings_or_a_damaged_one_begins_anew(tmp_path: Path) -> None:
    placed = Placed(tmp_path).add("1", ("a", text(1)))
    placed.index.close()
    same = CorpusIndex(tmp_path / "index.sqlite", "test", 64)
    assert [drop.key for drop in same.drops] == ["1"]
    same.close()
    other = CorpusIndex(tmp_path / "index.sqlite", "other", 64)
    assert other.drops == []
    other.close()
    (tmp_path / "index.sqlite").write_bytes(b"no database at all" * 100)
    assert CorpusIndex(tmp_path / "index.sqlite", "other", 64).drops == []


def test_a_drop_taken_away_is_as_if_it_had_never_come(placed: Placed) -> None:
    placed.add("1", ("a", text(1)), ("b", text(5))).add("2", ("a", text(2))).add("3", ("c", text(1)))
    placed.drops.pop(1)
    assert placed.apply() == 2
    assert placed.outcome() == {2: ("exact_duplicate", 0)}


def test_the_bands_find_what_comparing_all_pairs_finds(placed: Placed) -> None:
    random_ = random.Random(5)
    contents = []
    for seed in range(30):
        words = text(seed, 300).split()
        contents.append(" ".join(words))
        changed = [random_.choice(WORDS) if random_.random() < 0.02 else word for word in words]
        contents.append(" ".join(changed))
    placed.add("1", *((str(n), content) for n, content in enumerate(contents)))
    lost = placed.outcome()
    survivors = [n for n in range(len(contents)) if n not in lost]
    sets = {n: shingles(contents[n]) for n in survivors}
    alike = [(i, j) for i in survivors for j in survivors if i < j and jaccard(sets[i], sets[j]) >= 0.8]
    assert alike == []
    assert len(lost) >= 20
    assert all(match in survivors for _, match in lost.values())


def test_signatures_tell_the_similarity_and_depend_on_no_order() -> None:
    left, right = shingles(text(1)), shingles(text(1, 350))
    signatures = minhash_signatures([left, right, left[::-1].copy()], 126)
    assert signatures.shape == (3, 126)
    assert (signatures[0] == signatures[2]).all()
    assert estimated_similarity(signatures[0], signatures[1]) == pytest.approx(jaccard(left, right), abs=0.12)


def test_equal_rows_in_different_bands_hash_differently() -> None:
    settings = DuplicateSettings(permutations=12, bands=3)
    bands = band_hashes(np.ones((2, 12), dtype=np.uint32), settings)
    assert bands.shape == (2, 3)
    assert len(set(bands[0].tolist())) == 3
    assert (bands[0] == bands[1]).all()
