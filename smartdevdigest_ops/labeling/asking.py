"""Which documents are put to which teacher, what that will cost, and what came of it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from smartdevdigest_ops.artifacts import canonical_json, write_atomically
from smartdevdigest_ops.labeling.agreement import is_asked_twice
from smartdevdigest_ops.labeling.cache import AnswerCache, Usage
from smartdevdigest_ops.labeling.errors import LabelingError
from smartdevdigest_ops.labeling.inquiry import Sampling, make_question
from smartdevdigest_ops.labeling.label_inquiry import LabelInquiry
from smartdevdigest_ops.labeling.local import LocalTeacher, Machine
from smartdevdigest_ops.labeling.openai import OpenAITeacher
from smartdevdigest_ops.labeling.prompt import PROMPT_VERSION, document_data
from smartdevdigest_ops.labeling.quote import Quote, cost_of_all, refuse_above
from smartdevdigest_ops.settings import (
    LabelingSettings,
    LocalTeacherSettings,
    OpenAITeacherSettings,
    TeacherSettings,
)

CACHE_DIRECTORY = "labels_cache"
MODELS_DIRECTORY = ".teachers"
_PLAN_FILE = "documents_to_send.json"

Row = Mapping[str, Any]


class Teacher(Protocol):
    """Somebody who answers inquiries."""

    @property
    def name(self) -> str:
        """How the teacher is called in messages."""

    @property
    def settings(self) -> TeacherSettings:
        """What it was made from."""

    def identity(self) -> Mapping[str, Any]:
        """What tells this teacher from others."""

    def parameters(self) -> Mapping[str, Any]:
        """What decides its answers besides the sampling."""

    def sampling(self) -> Sampling:
        """How its answers are drawn."""

    def quote(self, inquiries: Sequence[LabelInquiry]) -> tuple[Usage, float | None, float | None]:
        """Tokens, cost and minutes of asking the open inquiries once each."""

    def ask(self, inquiries: Sequence[LabelInquiry]) -> None:
        """Ask until every inquiry has an outcome."""


@dataclass
class _Errand:
    """What one teacher is asked in one run."""

    teacher: Teacher
    where: str
    """Path of its settings."""
    is_first: bool
    first: list[LabelInquiry] = field(default_factory=list)
    second: list[LabelInquiry] = field(default_factory=list)
    num_rows: int = 0
    num_cached: int = 0

    @property
    def inquiries(self) -> list[LabelInquiry]:
        return [*self.first, *self.second]

    def quote(self) -> Quote:
        usage, cost, minutes = self.teacher.quote(self.inquiries)
        settings = self.teacher.settings
        endpoint = settings if isinstance(settings, OpenAITeacherSettings) else None
        return Quote(
            teacher=self.teacher.name,
            num_documents=self.num_rows,
            num_cached=self.num_cached,
            num_to_send=sum(inquiry.is_open for inquiry in self.first),
            num_over_budget=self.num_rows - len(self.first),
            num_second_opinions=sum(inquiry.is_open for inquiry in self.second),
            prompt_tokens=usage.prompt_tokens,
            answer_tokens=usage.answer_tokens,
            cost=cost,
            currency=endpoint.price.currency if endpoint else "",
            minutes=minutes,
            through_batch=endpoint is not None and endpoint.batch.enabled,
        )


class LabelRun:
    """One run's questions: planned when it is made, sent by `ask`."""

    def __init__(
        self,
        settings: LabelingSettings,
        machine: Machine,
        cache: AnswerCache,
        *,
        unlabeled: Sequence[Row],
        labeled: Sequence[Row],
        scratch: Path | None = None,
    ) -> None:
        """Plan.

        Args:
            settings: Which teachers there are.
            machine: Where a local one is computed.
            cache: What was answered before.
            unlabeled: Rows of the corpus (document_id, title, content, language) without a recorded label.
            labeled: Those with one: only a second teacher is asked about them.
            scratch: Survives a kill of this making. A killed run sends what it had planned, not as many again.
        """
        self._settings = settings
        self._cache = cache
        self.first: dict[str, LabelInquiry] = {}
        """By document id; a document that is over the budget is not in it."""
        self.second: dict[str, LabelInquiry] = {}
        self._errands: list[_Errand] = []
        if settings.teacher != "recorded":
            path = f"labeling.{settings.teacher}"
            teacher = _make_teacher(getattr(settings, settings.teacher), machine, cache, path)
            errand = _Errand(teacher, path, is_first=True)
            self._errands.append(errand)
            self._plan_first(errand, unlabeled, scratch)
        self._plan_second(machine, unlabeled, labeled)

    def _plan_first(self, errand: _Errand, rows: Sequence[Row], scratch: Path | None) -> None:
        # By document id, a hash: a budget that ends early leaves every split its share.
        ordered = sorted(rows, key=lambda row: str(row["document_id"]))
        inquiries = {str(row["document_id"]): self._inquiry(errand.teacher, row) for row in ordered}
        errand.num_rows = len(inquiries)
        errand.num_cached = sum(not inquiry.is_open for inquiry in inquiries.values())
        waiting = [document_id for document_id, inquiry in inquiries.items() if inquiry.is_open]
        planned = set(_planned(scratch, waiting[: errand.teacher.settings.max_documents]))
        self.first = {
            document_id: inquiry
            for document_id, inquiry in inquiries.items()
            if not inquiry.is_open or document_id in planned
        }
        errand.first = list(self.first.values())

    def _plan_second(self, machine: Machine, unlabeled: Sequence[Row], labeled: Sequence[Row]) -> None:
        settings = self._settings.agreement
        if settings.share == 0:
            return
        rows = [row for row in unlabeled if str(row["document_id"]) in self.first]
        if settings.teacher == "same":
            errand = self._errands[0]
            sampling = Sampling(settings.temperature, settings.seed)
        else:
            path = f"labeling.agreement.{settings.teacher}"
            teacher = _make_teacher(getattr(settings, settings.teacher), machine, self._cache, path)
            errand = _Errand(teacher, path, is_first=False)
            self._errands.append(errand)
            sampling = teacher.sampling()
            rows += labeled
        chosen = [row for row in rows if is_asked_twice(str(row["document_id"]), settings.share)]
        chosen.sort(key=lambda row: str(row["document_id"]))
        self.second = {str(row["document_id"]): self._inquiry(errand.teacher, row, sampling) for row in chosen}
        errand.second = list(self.second.values())

    def _inquiry(self, teacher: Teacher, row: Row, sampling: Sampling | None = None) -> LabelInquiry:
        sampling = sampling or teacher.sampling()
        data = document_data(
            title=row["title"],
            content=row["content"],
            language=row["language"],
            max_characters=teacher.settings.max_document_characters,
        )
        question = make_question(
            data,
            prompt_version=PROMPT_VERSION,
            identity=teacher.identity(),
            sampling=sampling,
            other_parameters=teacher.parameters(),
            refusal_round=teacher.settings.refusal_round,
        )
        return LabelInquiry(question, row, sampling, self._cache, teacher.settings.max_answers)

    def quotes(self) -> list[Quote]:
        """What will be asked of each teacher."""
        return [errand.quote() for errand in self._errands]

    def refuse_above_budget(self) -> None:
        """See that no teacher would cost more than its `max_cost`.

        Raises:
            LabelingError: one would.
        """
        for errand in self._errands:
            settings = errand.teacher.settings
            if isinstance(settings, OpenAITeacherSettings):
                spent = cost_of_all(self._cache.spent(_teacher_key(errand)), settings.price)
                refuse_above(settings.price.max_cost, errand.quote(), spent, errand.where)

    def ask(self) -> None:
        """Ask every teacher what it is to be asked.

        Raises:
            LabelingError: it would cost more than the budget (nothing was sent then), or a teacher cannot be asked, or
                requests failed to the end: what was answered is kept.
        """
        self.refuse_above_budget()
        for errand in self._errands:
            if any(inquiry.is_open for inquiry in errand.inquiries):
                errand.teacher.ask(errand.inquiries)
        unsettled = sum(not inquiry.is_settled for errand in self._errands for inquiry in errand.inquiries)
        if unsettled:
            raise LabelingError(
                f"The requests for {unsettled} documents failed to the end, although others got through. All answers "
                "are kept; run again to ask for these once more: a document that fails then too is left out."
            )

    def metrics(self) -> dict[str, float]:
        """Tokens and cost really used by this making, killed runs of it included; by teacher."""
        found: dict[str, float] = {}
        for errand in self._errands:
            prefix = "teacher" if errand.is_first else "second_teacher"
            spent = self._cache.spent(_teacher_key(errand))
            total = spent.direct + spent.batch
            found |= {
                f"{prefix}_replies": spent.num_replies,
                f"{prefix}_replies_refused": spent.num_refused,
                f"{prefix}_replies_without_usage": total.num_estimated,
                f"{prefix}_prompt_tokens": total.prompt_tokens,
                f"{prefix}_cached_prompt_tokens": total.cached_tokens,
                f"{prefix}_answer_tokens": total.answer_tokens,
            }
            settings = errand.teacher.settings
            if isinstance(settings, OpenAITeacherSettings) and settings.price.known:
                found[f"{prefix}_cost"] = cost_of_all(spent, settings.price)
        return found


def _make_teacher(settings: Any, machine: Machine, cache: AnswerCache, where: str) -> Teacher:
    if isinstance(settings, LocalTeacherSettings):
        return LocalTeacher(settings, machine, where)
    return OpenAITeacher(settings, cache, where)


def _teacher_key(errand: _Errand) -> str:
    return canonical_json(errand.teacher.identity())


def _planned(scratch: Path | None, now: Sequence[str]) -> Sequence[str]:
    """The documents that this making set out to send: what an earlier, killed run of it wrote down, or `now`."""
    if scratch is None:
        return now
    file = scratch / _PLAN_FILE
    if file.is_file():
        planned: list[str] = json.loads(file.read_text(encoding="utf-8"))
        return planned
    write_atomically(file, json.dumps(list(now)))
    return now
