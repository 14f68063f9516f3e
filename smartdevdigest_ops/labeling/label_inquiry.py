"""One document's way to its label."""

import json
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from smartdevdigest_ops.labeling.cache import AnswerCache, Question
from smartdevdigest_ops.labeling.inquiry import DECLINED, INVALID, Inquiry, Reply, Sampling
from smartdevdigest_ops.labeling.prompt import (
    Messages,
    TeacherAnswer,
    answer_schema,
    build_messages,
    document_data,
    repair_turns,
)
from smartdevdigest_ops.labeling.sanity import SoundLabel, hold_against_document


class LabelInquiry(Inquiry[TeacherAnswer]):
    """The state of the question for one document's label."""

    answer_type = TeacherAnswer
    usual_answer_tokens = 500  # the sample's labels are 700 (ko) and 1,100 (en) characters long

    def __init__(
        self, question: Question, row: Mapping[str, Any], sampling: Sampling, cache: AnswerCache, max_answers: int
    ) -> None:
        super().__init__(question, sampling, cache, max_answers)
        self.row = row

    def first_messages(self) -> Messages:
        """The rubric, and the document."""
        return build_messages(self.question.data)

    def repair_turns(self, text: str, problem: str) -> Messages:
        """The answer, and what is wrong with it."""
        return repair_turns(text, problem, self.row["language"])

    def answer_schema(self) -> dict[str, Any]:
        """That of a label."""
        return answer_schema()

    def data_within(self, max_characters: int) -> str:
        """The document with its content cut."""
        return document_data(
            title=self.row["title"],
            content=self.row["content"],
            language=self.row["language"],
            max_characters=max_characters,
        )

    def read(self, reply: Reply) -> TeacherAnswer | str:
        """The answer, if a label can be made of it, or what is wrong with it."""
        if reply.is_declined:
            return DECLINED
        if reply.is_cut_off:
            return INVALID
        try:
            answer = TeacherAnswer.model_validate(json.loads(reply.text))
        except (ValidationError, ValueError, RecursionError):
            return INVALID
        row = self.row
        sound = hold_against_document(
            answer.as_label("unnamed", row["language"]),
            title=row["title"], content=row["content"], language=row["language"],
        )  # fmt: skip
        return answer if isinstance(sound, SoundLabel) else sound
