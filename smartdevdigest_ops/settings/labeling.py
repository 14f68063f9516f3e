"""Where labels come from, what they may cost, and how often two opinions are asked for."""

from typing import Literal, Self

from pydantic import Field, model_validator

from smartdevdigest_ops.settings.delivery import AnswerSettings
from smartdevdigest_ops.settings.section import Section
from smartdevdigest_ops.settings.teachers import EndpointSettings, LocalModelSettings, PriceSettings


class TeacherSettings(Section):
    """What decides a teacher's answers, whichever teacher it is."""

    max_documents: int = Field(100, gt=0, description="At most so many documents are sent per run.")
    max_document_characters: int = Field(12000, gt=0, description="Longer documents are cut for the teacher.")
    temperature: float | None = Field(
        0.0, ge=0, description="0: the likeliest answer; null: not sent, for models that take none."
    )
    seed: int | None = Field(None, ge=0, description="Sent where set; fixes samples at a temperature above 0.")
    max_answers: int = Field(
        4, gt=0, description="Answers that are no label (no JSON, cut off, other keys) before a document is given up."
    )
    refusal_round: int = Field(
        0, ge=0, description="Raise it to ask again for the documents that came to no label, and only for those."
    )


class BatchSettings(Section):
    """The Batch API: files of requests, answered within a day at a lower price. Changes no answer."""

    enabled: bool = Field(False, description="Buy through the Batch API.")
    max_requests: int = Field(50_000, gt=0, description="Of one batch.")
    max_mebibytes: float = Field(100.0, gt=0, description="Of one batch's file.")
    max_enqueued_tokens: int | None = Field(
        None, gt=0, description="Prompt tokens (estimated) in all open batches together; null: no limit."
    )
    poll_seconds: float = Field(30.0, gt=0, description="Between two looks at the open batches.")


class TeacherPriceSettings(PriceSettings):
    """What the endpoint charges, for the quote and the bill. Changes no answer."""

    batch_share: float = Field(0.5, ge=0, le=1, description="What a token costs through the Batch API, as a share.")


class OpenAITeacherSettings(TeacherSettings, EndpointSettings):
    """Any OpenAI-compatible endpoint. The key comes from the environment only."""

    price: TeacherPriceSettings = Field(default_factory=lambda: TeacherPriceSettings())
    batch: BatchSettings = Field(default_factory=lambda: BatchSettings())


class LocalTeacherSettings(TeacherSettings, LocalModelSettings):
    """An instruct model of this machine, schema-guided."""

    engine: Literal["auto", "transformers", "vllm"] = Field(
        "auto", description="auto: vLLM where it is installed and model.device is a GPU, transformers elsewhere."
    )
    answers: AnswerSettings = Field(
        default_factory=lambda: AnswerSettings(batch_size=4, max_summary_characters=700, max_new_tokens=1024),
        description="Caps of an answer; max_new_tokens of max_length are kept for it.",
    )


class AgreementSettings(Section):
    """Documents that are labeled twice, to see how far a label can be trusted."""

    share: float = Field(0.0, ge=0, le=1, description="Share of the documents, drawn by a hash of their id.")
    teacher: Literal["same", "openai", "local"] = Field(
        "same", description="Who gives the second label: another sample of the same teacher, or another teacher."
    )
    temperature: float = Field(0.7, gt=0, description="Of the second sample of the same teacher.")
    seed: int = Field(1, ge=0, description="Of the second sample of the same teacher.")
    openai: OpenAITeacherSettings | None = Field(None, description="The second teacher, where it is openai.")
    local: LocalTeacherSettings | None = Field(None, description="The second teacher, where it is local.")
    listed_difference: float = Field(
        1.0, gt=0, le=4, description="Documents whose two scores, or any factor by twice as much, differ so far are "
        "listed for a person to look at."
    )  # fmt: skip

    @model_validator(mode="after")
    def _the_second_teacher_is_described(self) -> Self:
        if self.share > 0 and self.teacher != "same" and getattr(self, self.teacher) is None:
            raise ValueError(f"teacher={self.teacher} needs its settings under agreement.{self.teacher}.")
        return self


class LabelingSettings(Section):
    """Where labels come from."""

    teacher: Literal["recorded", "openai", "local"] = Field(
        "recorded", description="Who labels what data.label_paths leaves over; recorded: nobody."
    )
    openai: OpenAITeacherSettings = Field(default_factory=lambda: OpenAITeacherSettings())
    local: LocalTeacherSettings = Field(default_factory=lambda: LocalTeacherSettings())
    agreement: AgreementSettings = Field(default_factory=lambda: AgreementSettings())

    @model_validator(mode="after")
    def _every_teacher_can_be_asked(self) -> Self:
        if self.teacher == "local" and self.local.model is None:
            raise ValueError("teacher=local needs local.model, the instruct model that labels.")
        second = self.agreement
        if second.share > 0 and second.teacher == "same" and self.teacher == "recorded":
            raise ValueError(
                "agreement.share is above 0 with agreement.teacher=same, and the teacher is recorded, which cannot be "
                "asked twice. Set agreement.teacher to openai or local, or share to 0."
            )
        if second.share > 0 and second.local is not None and second.teacher == "local" and second.local.model is None:
            raise ValueError("agreement.teacher=local needs agreement.local.model.")
        return self
