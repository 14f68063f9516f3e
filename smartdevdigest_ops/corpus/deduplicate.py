"""One document per page and per text: which versions survive, and which survivor each other one stands behind.

Versions are placed one after the other, in the order of the drops:

1. The newest version of a URL supersedes the one before; unchanged content keeps the earlier one.
2. A text that another survivor has, but for case and white space, is an exact duplicate of it.
3. A text whose shingles are as similar as the bound to a survivor's is a near-duplicate; the longer one survives.

Whenever a survivor falls, what stood behind it is placed again, so that in the end every duplicate names a survivor
that it really resembles, and no two survivors are near-duplicates (but for what the bands miss, see `shingles`).
Candidates come from the bands, so a document costs the same in a small corpus and in a large one.

Clusters are sticky: a URL joins the cluster of the first survivor that it is matched with and never leaves, so that a
document keeps its split while the corpus grows.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from smartdevdigest_ops.corpus.shingles import jaccard

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from smartdevdigest_ops.corpus.shingles import Hashes

_CACHED_SHINGLE_SETS = 512


@dataclass(frozen=True)
class Version:
    """One version of a page: what decides between it and others."""

    url: str
    """Canonical."""
    folded_hash: str
    num_characters: int
    place: str
    """Drop and line, for a reader."""


@dataclass(frozen=True)
class Loss:
    """Why a version is not in the corpus."""

    reason: str
    match: int
    """Index of the version that it lost to."""
    similarity: float

    def detail(self, versions: Sequence[Version]) -> str:
        """The match, by URL and place, with the similarity that was found."""
        match = versions[self.match]
        if self.reason == "superseded":
            return f"newer version in {match.place}"
        return f"{self.similarity:.3f} similar to {match.url} in {match.place}"


@dataclass(frozen=True)
class Resolution:
    """What became of the versions, by their index."""

    losses: dict[int, Loss]
    clusters: dict[str, str]
    """Canonical URL -> first URL of its cluster."""

    def survivor(self, index: int) -> int:
        """The survivor that a version finally stands behind; itself if it is one."""
        while index in self.losses:
            index = self.losses[index].match
        return index


def resolve_duplicates(
    versions: Sequence[Version],
    bands: "npt.NDArray[np.uint64]",
    shingles_of: "Callable[[int], Hashes]",
    *,
    similarity: float,
    pinned: frozenset[str] = frozenset(),
    progress: Callable[[], object] = lambda: None,
) -> Resolution:
    """Decide for all versions, given in drop order.

    Args:
        versions: (N) what was prepared.
        bands: (N, minhash_bands) LSH band hashes.
        shingles_of: shingle set of a version by its index; called for candidates only.
        similarity: Jaccard similarity from which two texts are one.
        pinned: URLs that the user holds out; a text that replaces one joins its cluster before any other.
        progress: called once per version.
    """
    resolver = _Resolver(versions, bands, shingles_of, similarity, pinned)
    for index in range(len(versions)):
        resolver.place(index)
        progress()
    return Resolution(resolver.losses, resolver.clusters)


class _Resolver:
    def __init__(
        self,
        versions: Sequence[Version],
        bands: "npt.NDArray[np.uint64]",
        shingles_of: "Callable[[int], Hashes]",
        similarity: float,
        pinned: frozenset[str],
    ) -> None:
        import numpy as np

        self.losses: dict[int, Loss] = {}
        self.clusters: dict[str, str] = {}
        self._versions = versions
        self._shingles = lru_cache(maxsize=_CACHED_SHINGLE_SETS)(shingles_of)
        self._similarity = similarity
        self._pinned = pinned
        self._alive = np.zeros(len(versions), dtype=bool)
        self._buckets = [_Buckets(column) for column in bands.T]
        self._newest: dict[str, int] = {}
        self._by_text: dict[str, int] = {}
        self._behind: dict[int, list[int]] = {}
        self._joined: dict[str, int] = {}

    def place(self, index: int) -> None:
        """Place a new version, and again whatever it sets free."""
        waiting = deque([index])
        while waiting:
            waiting.extend(self._place_one(waiting.popleft()))

    def _place_one(self, index: int) -> list[int]:
        """Place one version; returns those that have to be placed again."""
        version = self._versions[index]
        self._joined.setdefault(version.url, index)
        newest = self._newest.get(version.url, index)
        if newest > index:
            self._lose(index, "superseded", newest, 0.0)
            return []
        freed: list[int] = []
        if newest != index and self._alive[newest]:
            if self._versions[newest].folded_hash == version.folded_hash:
                self._lose(index, "exact_duplicate", newest, 1.0)
                return []
            freed += self._fall(newest, "superseded", index, 0.0)
        self._newest[version.url] = index
        same_text = self._by_text.get(version.folded_hash)
        if same_text is not None:
            self._join(version.url, [same_text])
            self._lose(index, "exact_duplicate", same_text, 1.0)
            return freed
        matches = self._matches(index)
        longer = {j: s for j, s in matches.items() if self._versions[j].num_characters >= version.num_characters}
        if longer:
            match = max(longer, key=lambda j: (longer[j], -j))
            self._join(version.url, [match])
            self._lose(index, "near_duplicate", match, longer[match])
            return freed
        self._join(version.url, list(matches))
        for match, similarity in matches.items():
            freed += self._fall(match, "near_duplicate", index, similarity)
        self.losses.pop(index, None)
        self._alive[index] = True
        self._by_text[version.folded_hash] = index
        return sorted(freed)

    def _lose(self, index: int, reason: str, match: int, similarity: float) -> None:
        self.losses[index] = Loss(reason, match, similarity)
        self._behind.setdefault(match, []).append(index)

    def _fall(self, index: int, reason: str, winner: int, similarity: float) -> list[int]:
        """A survivor loses; returns what stood behind it as the same text, to be placed again."""
        self._alive[index] = False
        del self._by_text[self._versions[index].folded_hash]
        freed = [j for j in self._behind.pop(index, []) if self.losses[j].reason != "superseded"]
        self._lose(index, reason, winner, similarity)
        return freed

    def _join(self, url: str, matches: list[int]) -> None:
        """Put a URL into the cluster of its matches, unless it is in one: a pinned one first, else the oldest."""
        if url in self.clusters:
            return
        candidates = [self.clusters[self._versions[match].url] for match in matches]
        pinned = {self.clusters[self._versions[j].url] for j in matches if self._versions[j].url in self._pinned}
        self.clusters[url] = min(candidates, key=lambda c: (c not in pinned, self._joined[c]), default=url)

    def _matches(self, index: int) -> dict[int, float]:
        """Survivors that are as similar as the bound, with their similarity, oldest first."""
        import numpy as np

        members = [found for buckets in self._buckets if len(found := buckets.of(index)) > 1]
        if not members:
            return {}
        candidates = np.unique(np.concatenate(members))
        candidates = candidates[self._alive[candidates] & (candidates != index)]
        similarities = {int(j): jaccard(self._shingles(index), self._shingles(int(j))) for j in candidates}
        return {j: similarity for j, similarity in similarities.items() if similarity >= self._similarity}


class _Buckets:
    """Versions that share one band's hash, as two integer arrays: 8 bytes per version and band."""

    def __init__(self, hashes: "npt.NDArray[np.uint64]") -> None:
        import numpy as np

        _, bucket_of, sizes = np.unique(hashes, return_inverse=True, return_counts=True)
        self._bucket_of = bucket_of.astype(np.int32)
        self._members = np.argsort(bucket_of, kind="stable").astype(np.int32)
        self._ends = np.cumsum(sizes).astype(np.int32)

    def of(self, index: int) -> "npt.NDArray[np.int32]":
        bucket = self._bucket_of[index]
        start = self._ends[bucket - 1] if bucket else 0
        return self._members[start : self._ends[bucket]]
