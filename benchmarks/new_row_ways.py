"""How new rows may start otherwise than the product starts them: combinations of base rows, {base id: weight} a token.

    bytes   mean of the sub-tokens' rows, each counted by its bytes: a long one says more of the word than a letter
    last    the i-th sub-token counted i times, the last one most: its row was followed by what follows the word
    focus   rows of base tokens that stand in like company, by sparsemax of their cosines in a static embedding of the
            corpus as the extended tokenizer cuts it; a new token that is too rare there keeps the mean of sub-tokens

The same weights make a row of the input matrix and, where it is untied, of the output matrix and its bias.

The static embedding is positive pointwise mutual information of neighbours within a window, by truncated SVD; FOCUS
has fastText's in its place, whose subword n-grams this has not.

Source: Dobler and de Melo 2023, "FOCUS" (arXiv 2305.14481), section 3; Martins and Astudillo 2016 (arXiv 1602.02068),
algorithm 1, for sparsemax; Levy et al. 2015, "Improving Distributional Similarity", sections 3 and 5, for the smoothed
contexts and the square root of the singular values.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from smartdevdigest_ops.training.bits_per_byte import encode_documents

if TYPE_CHECKING:
    import numpy as np
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Weights = Sequence[Mapping[int, float]]
"""Of each new token: base id -> weight, together 1."""
WAYS = ("bytes", "last", "focus")
_WINDOW = 5
_DIMENSIONS = 256
_MIN_OCCURRENCES = 10
_CONTEXT_SMOOTHING = 0.75
_DOCUMENTS_AT_ONCE = 64
_NEW_TOKENS_AT_ONCE = 128


def weights_by_bytes(new_tokens: Sequence[Mapping[str, Any]], num_bytes: Callable[[int], int]) -> Weights:
    """Sub-tokens by their bytes."""
    return [_together(token["base_ids"], [num_bytes(base_id) for base_id in token["base_ids"]]) for token in new_tokens]


def weights_of_last(new_tokens: Sequence[Mapping[str, Any]]) -> Weights:
    """Sub-tokens by their place, the last most."""
    return [_together(token["base_ids"], range(1, len(token["base_ids"]) + 1)) for token in new_tokens]


def weights_of_focus(
    new_tokens: Sequence[Mapping[str, Any]],
    documents: Sequence["np.ndarray"],
    *,
    dimensions: int = _DIMENSIONS,
    min_occurrences: int = _MIN_OCCURRENCES,
) -> Weights:
    """Base tokens by likeness in a static embedding of `documents`, ids of the extended tokenizer each."""
    import numpy as np

    first = int(new_tokens[0]["id"])
    ids, rows_VD = embed(documents, dimensions, min_occurrences)
    is_base = ids < first
    base_ids, base_BD = ids[is_base], rows_VD[is_base]
    row_of = {int(token_id): row for row, token_id in enumerate(ids)}
    weights: list[Mapping[int, float]] = [_together(t["base_ids"], [1] * len(t["base_ids"])) for t in new_tokens]
    known = [index for index, token in enumerate(new_tokens) if token["id"] in row_of]
    for start in range(0, len(known), _NEW_TOKENS_AT_ONCE):
        indices = known[start : start + _NEW_TOKENS_AT_ONCE]
        new_ND = rows_VD[[row_of[new_tokens[index]["id"]] for index in indices]]
        for index, of_token in zip(indices, sparsemax(new_ND @ base_BD.T), strict=True):
            found = np.flatnonzero(of_token)
            weights[index] = dict(zip(base_ids[found].tolist(), of_token[found].tolist(), strict=True))
    return weights


def encode(tokenizer: "PreTrainedTokenizerBase", texts: Sequence[str]) -> list["np.ndarray"]:
    """Ids of each text, (T,) int32."""
    import numpy as np

    return [
        np.array(ids, dtype=np.int32)
        for start in range(0, len(texts), _DOCUMENTS_AT_ONCE)
        for ids in encode_documents(tokenizer, texts[start : start + _DOCUMENTS_AT_ONCE])
    ]


def embed(
    documents: Sequence["np.ndarray"], dimensions: int, min_occurrences: int
) -> tuple["np.ndarray", "np.ndarray"]:
    """Ids of the tokens that occur often enough, (V,), and their rows of length 1, (V, D) float32."""
    import numpy as np
    from scipy.sparse import coo_matrix
    from sklearn.decomposition import TruncatedSVD

    flat = np.concatenate(documents)
    document_of = np.repeat(np.arange(len(documents)), [len(document) for document in documents])
    ids, counts = np.unique(flat, return_counts=True)
    ids = ids[counts >= min_occurrences]
    place = np.searchsorted(ids, flat).clip(max=len(ids) - 1)
    is_frequent = ids[place] == flat
    pairs_VV = coo_matrix((len(ids), len(ids)), dtype=np.float32).tocsr()
    for distance in range(1, _WINDOW + 1):
        together = (
            (document_of[:-distance] == document_of[distance:]) & is_frequent[:-distance] & is_frequent[distance:]
        )
        left, right = place[:-distance][together], place[distance:][together]
        ones = np.ones(len(left), dtype=np.float32)
        pairs_VV += coo_matrix((ones, (left, right)), shape=pairs_VV.shape).tocsr()
    pairs = (pairs_VV + pairs_VV.T).tocoo()
    total_V = np.asarray(pairs.sum(axis=1), dtype=np.float64).ravel()
    context_V = total_V**_CONTEXT_SMOOTHING
    expected = total_V[pairs.row] * context_V[pairs.col] / context_V.sum()
    pairs.data = np.log(pairs.data / expected).clip(min=0).astype(np.float32)
    svd = TruncatedSVD(min(dimensions, len(ids) - 1), n_iter=3, random_state=0)
    rows_VD = svd.fit_transform(pairs.tocsr()) / np.sqrt(svd.singular_values_)
    lengths = np.linalg.norm(rows_VD, axis=1, keepdims=True)
    return ids, (rows_VD / np.where(lengths > 0, lengths, 1)).astype(np.float32)


def sparsemax(scores_NB: "np.ndarray") -> "np.ndarray":
    """(N, B): the point of the simplex that is nearest to each row of scores; most of it is 0."""
    import numpy as np

    falling_NB = -np.sort(-scores_NB, axis=1)
    sums_NB = falling_NB.cumsum(axis=1, dtype=np.float64) - 1
    places_B = np.arange(1, scores_NB.shape[1] + 1)
    support_N = (places_B * falling_NB > sums_NB).sum(axis=1)
    threshold_N = np.take_along_axis(sums_NB, support_N[:, None] - 1, axis=1) / support_N[:, None]
    return np.maximum(scores_NB - threshold_N, 0)


def set_rows(model: "PreTrainedModel", first: int, weights: Weights) -> None:
    """Start the rows from `first` on as `weights` combine the base's; `model` has them already."""
    import torch

    output = model.get_output_embeddings()
    targets = [model.get_input_embeddings().weight]
    if output.weight is not targets[0]:
        targets.append(output.weight)
        targets += [output.bias] if getattr(output, "bias", None) is not None else []
    with torch.no_grad():
        for target in targets:
            for row, of_token in enumerate(weights, start=first):
                shares = torch.tensor(list(of_token.values()), device=target.device)
                rows = target[list(of_token)].float()
                target[row] = torch.tensordot(shares, rows, dims=1).to(target.dtype)


def _together(base_ids: Sequence[int], counted: Sequence[float]) -> dict[int, float]:
    """Shares of the sub-tokens; one that stands twice has both."""
    shares = dict.fromkeys(base_ids, 0.0)
    for base_id, number in zip(base_ids, counted, strict=True):
        shares[base_id] += number / sum(counted)
    return shares
