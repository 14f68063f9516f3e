"""The settings tree."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import Field, model_validator

from smartdevdigest_ops.settings.automation import AutomationSettings, ExecutionSettings
from smartdevdigest_ops.settings.corpus import CorpusSettings
from smartdevdigest_ops.settings.crawl import CrawlSettings
from smartdevdigest_ops.settings.data import DataSettings, StoreSettings
from smartdevdigest_ops.settings.delivery import (
    DigestingSettings,
    EvaluationSettings,
    QuantizationSettings,
    ReleaseSettings,
)
from smartdevdigest_ops.settings.labeling import LabelingSettings
from smartdevdigest_ops.settings.section import Section, resolve_path
from smartdevdigest_ops.settings.serving import ServingSettings
from smartdevdigest_ops.settings.training import ModelSettings, TokenizerSettings, TrackingSettings, TrainingStages


class Settings(Section):
    """The whole tree."""

    profile: str = Field(description="Name of the profile laid over config.yaml; set by the loader.")
    seed: int = Field(17, ge=0, description="Seed of every random choice.")
    store: StoreSettings = StoreSettings()
    data: DataSettings
    crawl: CrawlSettings = Field(default_factory=lambda: CrawlSettings())
    model: ModelSettings
    corpus: CorpusSettings = Field(default_factory=lambda: CorpusSettings())
    tokenizer: TokenizerSettings = Field(default_factory=lambda: TokenizerSettings())
    training: TrainingStages
    labeling: LabelingSettings = LabelingSettings()
    quantization: QuantizationSettings = Field(default_factory=lambda: QuantizationSettings())
    digesting: DigestingSettings = Field(default_factory=lambda: DigestingSettings())
    evaluation: EvaluationSettings = Field(default_factory=lambda: EvaluationSettings())
    release: ReleaseSettings = ReleaseSettings()
    serving: ServingSettings = Field(default_factory=lambda: ServingSettings())
    automation: AutomationSettings = Field(default_factory=lambda: AutomationSettings())
    execution: ExecutionSettings = Field(default_factory=lambda: ExecutionSettings())
    tracking: TrackingSettings = TrackingSettings()

    @model_validator(mode="after")
    def _answers_leave_room_for_the_document(self) -> Self:
        if self.digesting.max_new_tokens + 128 > self.model.max_length:
            raise ValueError(
                f"digesting.max_new_tokens={self.digesting.max_new_tokens} leaves fewer than 128 tokens of "
                f"model.max_length={self.model.max_length} for the document. Lower the one or raise the other."
            )
        for name in ("m1", "m2"):
            length = getattr(self.training, name).sequence_length
            if length is not None and length > self.model.max_length:
                raise ValueError(
                    f"training.{name}.sequence_length={length} exceeds model.max_length={self.model.max_length}."
                )
        return self

    @property
    def store_dir(self) -> Path:
        """Absolute directory of the artifact store."""
        return resolve_path(self.store.root.replace("{profile}", self.profile))

    def only(self, paths: tuple[str, ...], *, without: tuple[str, ...] = ()) -> dict[str, Any]:
        """The named parts of the tree (`"tokenizer"`, `"model.max_length"`), as plain JSON by dotted path.

        What `without` names is left out of them.

        Raises:
            KeyError: a path names nothing.
        """
        dumped = self.model_dump(mode="json")
        for path in without:
            _remove(dumped, path)
        return {path: _lookup(dumped, path) for path in sorted(paths)}


def _remove(tree: Any, path: str) -> None:
    *above, last = path.split(".")
    for key in above:
        tree = tree.get(key) if isinstance(tree, dict) else None
    if isinstance(tree, dict):
        tree.pop(last, None)


def _lookup(tree: Any, path: str) -> Any:
    for key in path.split("."):
        if not isinstance(tree, Mapping) or key not in tree:
            raise KeyError(f"settings have no {path!r}")
        tree = tree[key]
    return tree
