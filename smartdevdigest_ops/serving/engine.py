"""What digests documents for clients: a model that has shown that it can."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from smartdevdigest_ops.digesting.model import DigestOutcome, Document, load_digester
from smartdevdigest_ops.serving.errors import ServingError
from smartdevdigest_ops.settings import DigestingSettings, ModelSettings


class Engine(Protocol):
    """A model that digests; `Digester` is one."""

    @property
    def settings(self) -> DigestingSettings:
        """How the model is asked; `batch_size` is what it digests well at once."""

    def digest(
        self, documents: Sequence[Document], *, on_step: Callable[[int], None] | None = None
    ) -> Iterator[DigestOutcome]:
        """One outcome per document, in order. What `on_step` raises ends the work on all of them."""


@dataclass(frozen=True)
class _WarmUpDocument:
    title: str | None = "Warm-up"
    content: str = "A container holds a program together with everything that it needs to run."
    language: str = "en"


def load_engine(model_dir: Path, model: ModelSettings) -> Engine:
    """The model, which has digested a document already: the first request does not wait for it.

    Raises:
        UserError: the model cannot be loaded, or digests nothing.
    """
    engine: Engine = load_digester(
        model_dir, device=model.device, precision=model.precision, threads=model.threads, may_use_vllm=True
    )
    outcome = next(iter(engine.digest([_WarmUpDocument()])))
    if outcome.error is not None:
        raise ServingError(
            f"{model_dir} was loaded but digests nothing: {outcome.error} It is not served. Make quantized_model again."
        )
    return engine
