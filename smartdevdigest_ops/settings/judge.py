"""Who judges digests, what is put to the judge, and how far it is believed."""

from typing import Literal, Self

from pydantic import Field, model_validator

from smartdevdigest_ops.settings.section import Section
from smartdevdigest_ops.settings.teachers import EndpointSettings, LocalModelSettings, RequestSettings

Dimension = Literal["faithfulness", "coverage", "clarity"]


class JudgeRequestSettings(RequestSettings):
    """How fast a judge's endpoint is asked, and how patiently. Changes no answer."""

    max_answer_tokens: int = Field(
        64, gt=0, description="An answer is one digit; a model that thinks before it answers needs more."
    )


class EndpointJudgeSettings(EndpointSettings):
    """A judge behind any OpenAI-compatible endpoint."""

    requests: JudgeRequestSettings = Field(default_factory=lambda: JudgeRequestSettings())


class LocalJudgeSettings(LocalModelSettings):
    """A judge of this machine: one forward pass a question, the digits' probabilities are read."""

    batch_size: int = Field(
        8, gt=0, description="Questions about one document that share a forward pass. Changes no answer."
    )


class JudgeSettings(Section):
    """The model that judges digests beside their documents and gold."""

    teacher: Literal["none", "openai", "local"] = Field(
        "none", description="Who judges; none: the report says that there was no judge."
    )
    openai: EndpointJudgeSettings = Field(default_factory=lambda: EndpointJudgeSettings())
    local: LocalJudgeSettings = Field(default_factory=lambda: LocalJudgeSettings())
    dimensions: tuple[Dimension, ...] = Field(
        ("faithfulness", "coverage", "clarity"), description="Rated 1-5, one question each."
    )
    pairwise: bool = Field(True, description="Ask which of two summaries is better, too, in both orders.")
    against: tuple[Literal["unquantized", "other", "release", "m1", "untuned_base", "lead3", "textrank"], ...] = Field(
        ("lead3", "untuned_base"), description="Systems of the report that are judged beside the candidate."
    )
    max_documents: int = Field(
        50, gt=0, description="Documents with a gold summary at most, drawn by URL hash, half per language."
    )
    max_document_characters: int = Field(12000, gt=0, description="Longer documents are cut for the judge.")
    repeats: int = Field(
        5, gt=0, description="Answers to a question that are averaged where the endpoint gives no logprobs."
    )
    temperature: float | None = Field(
        1.0, ge=0, description="Of an endpoint's answers; null: not sent, for models that take none."
    )
    seed: int | None = Field(
        0, ge=0, description="Of the first answer to a question, one more for each repeat; null: not sent."
    )
    max_answers: int = Field(3, gt=0, description="Answers that are no digit before a question is given up.")
    refusal_round: int = Field(
        0, ge=0, description="Raise it to ask again where there was no judgement, and for the report to be made again."
    )
    min_accuracy: float = Field(
        0.8, gt=0, le=1, description="On pairs with a known answer; below it the judge is marked unreliable."
    )

    @model_validator(mode="after")
    def _the_judge_can_be_asked(self) -> Self:
        if self.teacher == "local" and self.local.model is None:
            raise ValueError("teacher=local needs local.model, the instruct model that judges.")
        for name in ("dimensions", "against"):
            if len(set(getattr(self, name))) < len(getattr(self, name)):
                raise ValueError(f"{name} names one twice. Name each once.")
        return self

    @model_validator(mode="after")
    def _the_judge_can_be_judged(self) -> Self:
        if not self.pairwise and not {"faithfulness", "coverage"} & set(self.dimensions):
            raise ValueError(
                "no pair with a known answer tests what is asked, so that nobody would know how far the judge can be "
                "believed. Set pairwise to true, or put faithfulness or coverage among the dimensions."
            )
        return self

    @model_validator(mode="after")
    def _repeats_differ(self) -> Self:
        if self.teacher == "openai" and self.repeats > 1 and self.temperature == 0:
            raise ValueError(
                f"temperature=0 gives the same answer {self.repeats} times (repeats), each of them paid. Raise "
                "temperature, or set repeats to 1."
            )
        return self
