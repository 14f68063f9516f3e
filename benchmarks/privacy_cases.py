"""Precision and recall of the masks on texts whose private stretches are marked: `call ⟦phone:010-…⟧ first`."""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

from smartdevdigest_ops.corpus.privacy.found import Found
from smartdevdigest_ops.corpus.privacy.mask import find_private
from smartdevdigest_ops.settings.corpus import PrivacySettings, PrivateKind

_MARK = re.compile(r"⟦([a-z_]+):(.*?)⟧", re.DOTALL)


@dataclass(frozen=True)
class Case:
    """A text and what of it is private; a case with nothing marked is a lookalike that must stay."""

    text: str
    private: frozenset[Found]
    language: str
    place: str
    """`prose` or `code`."""


@dataclass
class Score:
    """What was found of one kind, with exact bounds, against what is marked."""

    num_marked: int = 0
    num_found: int = 0
    num_right: int = 0
    wrong: list[str] = field(default_factory=list)
    """Findings that nothing marks, and marks that nothing found, with their texts."""

    @property
    def precision(self) -> float:
        """Share of the findings that are marked; 1 where nothing was found."""
        return self.num_right / self.num_found if self.num_found else 1.0

    @property
    def recall(self) -> float:
        """Share of the marks that are found; 1 where nothing is marked."""
        return self.num_right / self.num_marked if self.num_marked else 1.0


def read_cases(path: Path) -> list[Case]:
    """The cases of a JSON Lines file with `text`, `language` and `place`."""
    return [_case(json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines() if line]


def score_cases(cases: Iterable[Case], settings: PrivacySettings) -> dict[PrivateKind, Score]:
    """How well each kind is found in the cases."""
    scores: dict[PrivateKind, Score] = {kind: Score() for kind in get_args(PrivateKind)}
    for case in cases:
        found = frozenset(find_private(case.text, settings))
        for each in found | case.private:
            score = scores[each.kind]
            score.num_found += each in found
            score.num_marked += each in case.private
            score.num_right += each in found and each in case.private
            if each not in case.private:
                score.wrong.append(f"not private: {case.text[each.start : each.end]!r} in {case.text[:160]!r}")
            elif each not in found:
                score.wrong.append(f"not found: {case.text[each.start : each.end]!r} in {case.text[:160]!r}")
    return scores


def _case(record: dict[str, str]) -> Case:
    marked = record["text"]
    private, pieces, done, length = set(), [], 0, 0
    for mark in _MARK.finditer(marked):
        pieces += [marked[done : mark.start()], mark[2]]
        start = length + mark.start() - done
        length = start + len(mark[2])
        private.add(Found(start, length, mark[1]))  # type: ignore[arg-type]  # a wrong kind fails as never found
        done = mark.end()
    text = "".join([*pieces, marked[done:]])
    return Case(text, frozenset(private), record["language"], record["place"])
