"""The records that cross the system's border: crawl record in, label in between, digest out."""

from smartdevdigest_ops.contracts.digest import Difficulty, DifficultyLabel, Digest, Term, difficulty_label
from smartdevdigest_ops.contracts.document import CrawlRecord, Language, SourceType
from smartdevdigest_ops.contracts.label import DifficultyFactors, Label

__all__ = [
    "CrawlRecord",
    "Difficulty",
    "DifficultyFactors",
    "DifficultyLabel",
    "Digest",
    "Label",
    "Language",
    "SourceType",
    "Term",
    "difficulty_label",
]
