"""Where labels come from, what they may cost, and how often two opinions are asked for."""

from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from smartdevdigest_ops.settings.delivery import AnswerSettings
from smartdevdigest_ops.settings.section import Section


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


class RequestSettings(Section):
    """How fast an endpoint is asked, and how patiently. Changes no answer."""

    max_in_flight: int = Field(8, gt=0, description="Requests under way at the same time.")
    requests_per_minute: float | None = Field(None, gt=0, description="The account's limit; null: none.")
    tokens_per_minute: float | None = Field(None, gt=0, description="Of prompt and answer together; null: no limit.")
    burst_seconds: float = Field(
        10.0, gt=0, le=60, description="So many seconds' worth of the limits may be spent at once after a pause."
    )
    timeout_seconds: float = Field(60.0, gt=0, description="Until an answer is there.")
    max_retries: int = Field(
        8, ge=0, description="Further tries of a request after 429, 5xx, a time-out or a cut connection."
    )
    first_pause_seconds: float = Field(0.5, ge=0, description="Before the first of them; doubled for each further one.")
    max_pause_seconds: float = Field(
        300.0, gt=0, description="The longest pause, and the longest Retry-After that is waited for."
    )
    max_answer_tokens: int = Field(1500, ge=64, description="At which the endpoint ends an answer.")
    answer_tokens_parameter: Literal["max_completion_tokens", "max_tokens"] = Field(
        "max_completion_tokens", description="Name under which max_answer_tokens is sent; older servers: max_tokens."
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


class PriceSettings(Section):
    """What the endpoint charges, for the quote and the bill. Changes no answer."""

    input_per_million: float | None = Field(None, ge=0, description="Price of a million prompt tokens.")
    output_per_million: float | None = Field(None, ge=0, description="Price of a million answer tokens.")
    cached_input_share: float = Field(
        1.0, ge=0, le=1, description="What a prompt token costs that the endpoint had cached, as a share of the price."
    )
    batch_share: float = Field(0.5, ge=0, le=1, description="What a token costs through the Batch API, as a share.")
    currency: str = Field("USD", min_length=1, description="In which the prices are, for a reader.")
    max_cost: float | None = Field(
        None, ge=0, description="A run that would cost more is refused, and one that comes to cost more is stopped."
    )

    @property
    def known(self) -> bool:
        """Whether a cost can be said."""
        return self.input_per_million is not None and self.output_per_million is not None

    @model_validator(mode="after")
    def _both_prices_or_none(self) -> Self:
        if (self.input_per_million is None) != (self.output_per_million is None):
            raise ValueError("input_per_million and output_per_million come together: set the other one too.")
        if self.max_cost is not None and not self.known:
            raise ValueError(
                f"max_cost={self.max_cost} can only be held to with input_per_million and output_per_million. Set them."
            )
        return self


class OpenAITeacherSettings(TeacherSettings):
    """Any OpenAI-compatible endpoint. The key comes from the environment only."""

    base_url: str | None = Field(None, description="Endpoint; null: the openai package's default.")
    model: str = Field("gpt-4o-mini", min_length=1, description="Model name at the endpoint.")
    api_key_environment: str = Field("OPENAI_API_KEY", description="Environment variable that holds the key.")
    requests: RequestSettings = Field(default_factory=lambda: RequestSettings())
    batch: BatchSettings = Field(default_factory=lambda: BatchSettings())
    price: PriceSettings = Field(default_factory=lambda: PriceSettings())

    @model_validator(mode="after")
    def _no_credentials_in_the_address(self) -> Self:
        # The settings go into logs, the UI and every making's record. A check of the section, not of the field: the
        # message of a field's check shows what was found.
        address = urlsplit(self.base_url or "")
        if "@" in address.netloc or address.query:
            raise ValueError(
                "base_url holds a user, a password or a query, which would be written into logs and records. Take it "
                "out; the key comes from the environment variable that api_key_environment names."
            )
        return self

    @model_validator(mode="after")
    def _a_request_fits_the_limits(self) -> Self:
        limit, tokens = self.requests.tokens_per_minute, self.requests.max_answer_tokens
        if limit is not None and limit < tokens:
            raise ValueError(
                f"requests.tokens_per_minute={limit:g} is less than requests.max_answer_tokens={tokens}: one answer "
                "could take more than a minute's tokens. Lower max_answer_tokens."
            )
        return self


class LocalTeacherSettings(TeacherSettings):
    """An instruct model of this machine, schema-guided."""

    model: str | None = Field(
        None, description="As model.base_model: package:…, hf:ORG/NAME@REVISION, a directory; with a chat template."
    )
    engine: Literal["auto", "transformers", "vllm"] = Field(
        "auto", description="auto: vLLM where it is installed and model.device is a GPU, transformers elsewhere."
    )
    max_length: int | None = Field(
        None, gt=255, description="Prompt and answer in tokens at most; null: as many positions as the model has."
    )
    answers: AnswerSettings = Field(
        default_factory=lambda: AnswerSettings(batch_size=4, max_summary_characters=700, max_new_tokens=1024),
        description="Caps of an answer; max_new_tokens of max_length are kept for it.",
    )

    @field_validator("model")
    @classmethod
    def _a_revision_that_cannot_move(cls, model: str | None) -> str | None:
        if model is not None and model.startswith("hf:") and "@" not in model:
            raise ValueError(
                "needs a revision (hf:ORG/NAME@REVISION): answers are kept by model, and an unpinned name can become "
                "another model."
            )
        return model


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
