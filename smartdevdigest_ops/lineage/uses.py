"""How each stage uses the documents that its inputs hold, by split."""

from dataclasses import dataclass
from typing import Literal

Role = Literal["trained", "calibrated", "evaluated"]

LEARNED: tuple[Role, ...] = ("trained", "calibrated")
"""Uses that leave something of a document in what is made."""


@dataclass(frozen=True)
class Use:
    """What a stage does with one split of an input."""

    input: str
    split: str
    role: Role
    is_drawn: bool = False
    """Some documents of the split only: which ones, `Making.documents` says where the stage reports them."""


USES: dict[str, tuple[Use, ...]] = {
    "domain_tokenizer": (
        Use("corpus_snapshot", "train", "trained"),
        Use("corpus_snapshot", "valid", "evaluated"),
        Use("corpus_snapshot", "test", "evaluated"),
    ),
    "m1_checkpoint": (
        Use("corpus_snapshot", "train", "trained"),
        Use("corpus_snapshot", "valid", "evaluated", is_drawn=True),
    ),
    "m2_adapter": (
        Use("labeled_pairs", "train", "trained"),
        Use("labeled_pairs", "valid", "evaluated", is_drawn=True),
    ),
    "quantized_model": (
        Use("labeled_pairs", "train", "calibrated", is_drawn=True),
        Use("labeled_pairs", "valid", "calibrated", is_drawn=True),
        Use("corpus_snapshot", "valid", "evaluated", is_drawn=True),
    ),
    # Its baselines weigh words on the train split; no figure of the candidate comes from there.
    "evaluation_report": (
        Use("labeled_pairs", "test", "evaluated", is_drawn=True),
        Use("corpus_snapshot", "test", "evaluated", is_drawn=True),
    ),
}

HOLDERS: dict[str, str] = {
    "raw_crawl": "taken in",
    "cleaned_documents": "cleaned",
    "cleaned_corpus": "kept",
    "corpus_snapshot": "frozen",
    "labeled_pairs": "labeled",
    "digests": "digested",
}
"""Assets that hold documents one by one, and what became of a document in them."""
