"""Shingles of a text and their MinHash bands: how near-duplicates are found without comparing all pairs.

Two documents whose shingle sets have Jaccard similarity s share at least one of b bands of r rows with probability
1 - (1 - s^r)^b. With 128 permutations in 16 bands: 0.95 at s = 0.8, 0.99 at 0.85, 0.24 at 0.6; what a band finds is
verified on the shingle sets themselves.
Source: Broder 1997 (resemblance); Leskovec et al., Mining of Massive Datasets, section 3.4 (bands).
"""

from typing import TYPE_CHECKING

from smartdevdigest_ops.corpus.normalise import fold
from smartdevdigest_ops.settings import CorpusSettings

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Hashes = npt.NDArray[np.uint64]

# Fixed for good: another seed makes every stored band useless.
_SEED = 20261005
_MULTIPLIER = 0x9E3779B97F4A7C15
_MIX = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)


def shingle_hashes(text: str, shingle_characters: int) -> "Hashes":
    """Distinct 64-bit hashes of all windows of so many characters of the folded text, sorted: (S,) uint64.

    A text shorter than a window is one shingle. 5,000 characters take 1 ms.
    """
    import numpy as np

    characters = np.frombuffer(fold(text).encode("utf-32-le", "surrogatepass"), dtype="<u4").astype(np.uint64)
    width = max(1, min(shingle_characters, len(characters)))
    count = max(0, len(characters) - width + 1)
    hashes = np.zeros(count, dtype=np.uint64)
    for offset in range(width):
        hashes *= np.uint64(_MULTIPLIER)
        hashes += characters[offset : offset + count]
    return np.unique(_mixed(hashes))


def band_hashes(shingles: "Hashes", settings: CorpusSettings) -> "Hashes":
    """One hash per LSH band of the MinHash signature: (minhash_bands,) uint64."""
    import numpy as np
    from rensa import RMinHash

    offsets = np.array([0, len(shingles)], dtype=np.uint64)
    matrix = RMinHash.digest_matrix_from_flat_token_hashes(shingles, offsets, settings.minhash_permutations, _SEED)
    signature = np.asarray(matrix.to_rows()[0], dtype=np.uint64)
    rows = signature.reshape(settings.minhash_bands, -1)
    # Bands are compared each with its own kind only, so equal rows in different bands need no telling apart.
    hashes = np.zeros(settings.minhash_bands, dtype=np.uint64)
    for column in rows.T:
        hashes = _mixed(hashes * np.uint64(_MULTIPLIER) + column)
    return hashes


def jaccard(left: "Hashes", right: "Hashes") -> float:
    """Share of common shingles among all shingles of two sets; 0 where both are empty."""
    import numpy as np

    common = len(np.intersect1d(left, right, assume_unique=True))
    union = len(left) + len(right) - common
    return common / union if union else 0.0


def _mixed(hashes: "Hashes") -> "Hashes":
    """Finalizer of splitmix64: spreads the bits of a polynomial hash."""
    import numpy as np

    hashes = (hashes ^ (hashes >> np.uint64(30))) * np.uint64(_MIX[0])
    hashes = (hashes ^ (hashes >> np.uint64(27))) * np.uint64(_MIX[1])
    mixed: Hashes = hashes ^ (hashes >> np.uint64(31))
    return mixed
