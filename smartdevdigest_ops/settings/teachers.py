"""Models that are asked and do not belong to the graph, behind an endpoint or of this machine: teachers and judges."""

from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from smartdevdigest_ops.settings.section import Section


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


class PriceSettings(Section):
    """What the endpoint charges, for the quote and the bill. Changes no answer."""

    input_per_million: float | None = Field(None, ge=0, description="Price of a million prompt tokens.")
    output_per_million: float | None = Field(None, ge=0, description="Price of a million answer tokens.")
    cached_input_share: float = Field(
        1.0, ge=0, le=1, description="What a prompt token costs that the endpoint had cached, as a share of the price."
    )
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


class EndpointSettings(Section):
    """A model behind any OpenAI-compatible endpoint. The key comes from the environment only."""

    base_url: str | None = Field(None, description="Endpoint; null: the openai package's default.")
    model: str = Field("gpt-4o-mini", min_length=1, description="Model name at the endpoint.")
    api_key_environment: str = Field("OPENAI_API_KEY", description="Environment variable that holds the key.")
    requests: RequestSettings = Field(default_factory=lambda: RequestSettings())
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


class LocalModelSettings(Section):
    """An instruct model of this machine."""

    model: str | None = Field(
        None, description="As model.base_model: package:…, hf:ORG/NAME@REVISION, a directory; with a chat template."
    )
    max_length: int | None = Field(
        None, gt=255, description="Prompt and answer in tokens at most; null: as many positions as the model has."
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
