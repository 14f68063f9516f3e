"""The settings tree: `config/config.yaml` is its file, `config/profiles/*.yaml` lay over it.

Every leaf is checked at load; a wrong key, type or combination is refused with its path, what was found and
what was expected. A stage sees only the sections it declares (`Settings.only`), so that a setting that cannot
change an artifact cannot re-make it either.
"""

import copy
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from smartdevdigest_ops.errors import UserError

PROJECT_DIR = Path(__file__).resolve().parent.parent
CONFIG_DIR = PROJECT_DIR / "config"
DEFAULT_PROFILE = "sample"
OVERRIDES_VARIABLE = "SMARTDEVDIGEST_OVERRIDES"


class SettingsError(UserError):
    """The settings files hold a wrong key, type or combination."""


class Section(BaseModel):
    """Base of every section: frozen, and no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class StoreSettings(Section):
    """Where artifacts live."""

    root: str = Field("store/{profile}", description="Directory; `{profile}` keeps the profiles' graphs apart.")


class ModelSettings(Section):
    """The base model and how models are held."""

    base_model: str = Field(
        description="`package:NAME/FILE.gguf`, `hf:ORG/NAME[@REVISION]`, a local directory, or `tiny-random-llama`."
    )
    use_gptq: bool = Field(True, description="Quantize the merged model to 4 bits; false ships it unquantized.")
    device: Literal["auto", "cuda", "mps", "cpu"] = Field("auto", description="auto: cuda, then mps, then cpu.")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="auto: bfloat16 on cuda, else float32."
    )
    threads: int = Field(0, ge=0, description="CPU threads; 0: as many as cores.")
    max_length: int = Field(gt=63, description="T: longest sequence in tokens, prompt and answer together.")


class TrainingSettings(Section):
    """One training stage (the user's keys, the budget, and what the trainer needs)."""

    batch_size: int = Field(gt=0, description="Sequences per optimizer micro-step.")
    learning_rate: float = Field(gt=0, lt=1, description="Peak learning rate.")
    epochs: float = Field(gt=0, description="Passes over the training data.")
    warmup_steps: int = Field(ge=0, description="Optimizer steps of linear warm-up.")
    gradient_accumulation: int = Field(gt=0, description="Micro-steps per optimizer step.")
    max_steps: int | None = Field(None, gt=0, description="Budget: at most so many optimizer steps; null: no limit.")
    sequence_length: int | None = Field(None, gt=15, description="T of training sequences; null: model.max_length.")
    weight_decay: float = Field(0.0, ge=0, description="AdamW weight decay.")
    evaluation_documents: int = Field(64, gt=0, description="At most so many held-out documents per language.")

    @model_validator(mode="after")
    def _warmup_fits_the_budget(self) -> Self:
        if self.max_steps is not None and self.warmup_steps >= self.max_steps:
            raise ValueError(
                f"warmup_steps={self.warmup_steps} is not below max_steps={self.max_steps}: "
                "the learning rate would never reach its peak. Lower warmup_steps."
            )
        return self


class M1Settings(TrainingSettings):
    """Domain adaptation of the base model (M1)."""

    embedding_learning_rate: float | None = Field(
        None, gt=0, lt=1, description="Peak rate of the embedding matrix; null: learning_rate."
    )
    evaluation_characters: int = Field(
        4000, gt=0, description="First so many characters of each held-out document are scored in bits per byte."
    )


class LoraSettings(Section):
    """The adapter's shape (LoRA, arXiv 2106.09685)."""

    rank: int = Field(16, gt=0, description="r")
    alpha: int = Field(32, gt=0, description="Scale: alpha / r multiplies the adapter's output.")
    dropout: float = Field(0.0, ge=0, lt=1)
    target_modules: Literal["all-linear"] | tuple[str, ...] = Field(
        "all-linear", description="Layers that get an adapter."
    )


class M2Settings(TrainingSettings):
    """Instruction tuning on the digest JSON (M2)."""

    lora: LoraSettings = LoraSettings()


class TrainingStages(Section):
    """Both training stages."""

    m1: M1Settings
    m2: M2Settings


class DataSettings(Section):
    """Files that come in from outside. Relative paths are relative to the project directory."""

    train_path: str = Field(description="Drops of crawl records: a file, a directory or a glob.")
    valid_path: str | None = Field(None, description="Crawl records always held out for validation; null: by URL hash.")
    test_path: str | None = Field(None, description="Crawl records always held out for testing; null: by URL hash.")
    incoming_path: str = Field("data/incoming", description="Directory that the drop sensor watches.")
    label_paths: tuple[str, ...] = Field((), description="Recorded label files (contracts/label.py), JSON Lines.")


class CorpusSettings(Section):
    """Cleaning, de-duplication and splits."""

    min_characters: int = Field(200, ge=0, description="Shorter documents (after normalising) are dropped.")
    min_letter_share: float = Field(
        0.3, ge=0, le=1, description="Least share of letters among visible characters, outside code."
    )
    max_repeated_line_share: float = Field(
        0.3, ge=0, le=1, description="Most share of the prose that stands in repeated lines (Gopher)."
    )
    near_duplicate_similarity: float = Field(
        0.8, gt=0, le=1, description="Jaccard similarity of shingles from which two are one."
    )
    shingle_characters: int = Field(13, gt=1, description="Characters per shingle, white space folded.")
    minhash_permutations: int = Field(128, gt=0, description="Hash functions per signature.")
    minhash_bands: int = Field(16, gt=0, description="LSH bands; permutations must be a multiple.")
    valid_share: float = Field(0.1, gt=0, lt=1, description="Share of URLs held out for validation.")
    test_share: float = Field(0.1, gt=0, lt=1, description="Share of URLs held out for testing.")
    split_salt: str = Field("smartdevdigest", description="Changes which URLs are held out.")

    @model_validator(mode="after")
    def _shares_leave_a_train_split(self) -> Self:
        if self.valid_share + self.test_share >= 1:
            raise ValueError(
                f"valid_share + test_share = {self.valid_share + self.test_share:g} leaves nothing to train on."
            )
        if self.minhash_permutations % self.minhash_bands:
            raise ValueError(
                f"minhash_permutations={self.minhash_permutations} is not a multiple of "
                f"minhash_bands={self.minhash_bands}: the rest would never be compared."
            )
        return self


class TokenizerSettings(Section):
    """Continued BPE on the base tokenizer."""

    num_new_tokens: int = Field(2000, ge=0, description="Merges learned on the corpus, beside required_terms; 0: none.")
    required_terms: tuple[str, ...] = Field((), description="Each becomes one token, with and without a leading space.")
    min_frequency: int = Field(8, gt=0, description="Least count of a pair that is merged.")
    max_token_characters: int = Field(24, gt=1, description="Longest new token.")


class OpenAITeacherSettings(Section):
    """Any OpenAI-compatible endpoint. The key comes from the environment only."""

    base_url: str | None = Field(None, description="Endpoint; null: the openai package's default.")
    model: str = Field("gpt-4o-mini", description="Model name at the endpoint.")
    api_key_environment: str = Field("OPENAI_API_KEY", description="Environment variable that holds the key.")
    max_documents: int = Field(100, gt=0, description="At most so many documents are sent per run.")
    max_document_characters: int = Field(12000, gt=0, description="Longer documents are cut for the teacher.")
    temperature: float = Field(0.0, ge=0)
    timeout_seconds: float = Field(60.0, gt=0)
    max_retries: int = Field(3, ge=0)


class LabelingSettings(Section):
    """Where labels come from."""

    teacher: Literal["recorded", "openai"] = Field("recorded", description="recorded: data.label_paths only.")
    openai: OpenAITeacherSettings = Field(default_factory=lambda: OpenAITeacherSettings())


class QuantizationSettings(Section):
    """GPTQ (arXiv 2210.17323)."""

    bits: Literal[4, 8] = Field(4)
    group_size: int = Field(64, gt=0, description="Input channels per scale; must divide every layer's input size.")
    desc_act: bool = Field(False, description="Act-order.")
    symmetric: bool = Field(True)
    damping: float = Field(0.05, gt=0, lt=1, description="Share of the Hessian's mean diagonal added to it.")
    calibration_documents: int = Field(
        32, gt=1, description="Digest prompts with answers, train split, half per language."
    )
    calibration_tokens: int = Field(512, gt=15, description="Tokens per calibration sequence at most.")
    comparison_documents: int = Field(
        4, gt=0, description="Validation documents per language that are compared before and after."
    )
    max_bits_per_byte_increase: float = Field(
        0.25, gt=0, description="Gate: most loss per language against the unquantized model."
    )


class DigestingSettings(Section):
    """Guided generation of digests: the caps make every generation end."""

    batch_size: int = Field(8, gt=0, description="Documents generated together.")
    max_summary_characters: int = Field(400, gt=20)
    max_keywords: int = Field(8, gt=0)
    max_keyword_characters: int = Field(40, gt=1)
    max_prerequisites: int = Field(5, ge=0)
    max_prerequisite_characters: int = Field(60, gt=1)
    max_terms: int = Field(6, gt=0)
    max_explanation_characters: int = Field(160, gt=10)
    max_new_tokens: int = Field(
        512, gt=63, description="Answer budget in tokens; the prompt gets the rest of max_length."
    )


class EvaluationSettings(Section):
    """What is measured, on how much."""

    max_documents: int = Field(200, gt=0, description="Test documents at most, drawn by URL hash, half per language.")
    bootstrap_samples: int = Field(1000, ge=100, description="Resamples of documents per interval.")
    confidence: float = Field(0.95, gt=0.5, lt=1)
    untuned_base: bool = Field(True, description="Generate with the untuned base model too.")
    bits_per_byte_documents: int = Field(
        8, gt=0, description="Test documents per language at most whose bits per byte are measured at every stage."
    )


class ReleaseSettings(Section):
    """When a candidate becomes the release."""

    min_valid_json_rate: float = Field(1.0, ge=0, le=1)
    tolerance: float = Field(
        0.02, ge=0, description="How far a candidate's upper bound may lie below the release's mean."
    )
    fields: tuple[str, ...] = Field(("rougeL", "keyword_f1"), description="Metrics that are compared, per language.")


class TrackingSettings(Section):
    """How a training is followed and kept safe: Weights & Biases (extra `wandb`), checkpoints."""

    wandb: Literal["disabled", "offline", "online"] = Field("disabled")
    project: str = Field("smartdevdigest")
    checkpoint_steps: int | None = Field(
        None,
        gt=0,
        description="Optimizer steps between M1's checkpoints; null: at most four parts of 25 to 500 steps.",
    )


class Settings(Section):
    """The whole tree."""

    profile: str = Field(description="Name of the profile laid over config.yaml; set by the loader.")
    seed: int = Field(17, ge=0, description="Seed of every random choice.")
    store: StoreSettings = StoreSettings()
    data: DataSettings
    model: ModelSettings
    corpus: CorpusSettings = Field(default_factory=lambda: CorpusSettings())
    tokenizer: TokenizerSettings = Field(default_factory=lambda: TokenizerSettings())
    training: TrainingStages
    labeling: LabelingSettings = LabelingSettings()
    quantization: QuantizationSettings = Field(default_factory=lambda: QuantizationSettings())
    digesting: DigestingSettings = Field(default_factory=lambda: DigestingSettings())
    evaluation: EvaluationSettings = Field(default_factory=lambda: EvaluationSettings())
    release: ReleaseSettings = ReleaseSettings()
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

    def only(self, paths: tuple[str, ...]) -> dict[str, Any]:
        """The named parts of the tree (`"tokenizer"`, `"model.max_length"`), as plain JSON by dotted path.

        Raises:
            KeyError: a path names nothing.
        """
        dumped = self.model_dump(mode="json")
        return {path: _lookup(dumped, path) for path in sorted(paths)}


def _lookup(tree: Any, path: str) -> Any:
    for key in path.split("."):
        if not isinstance(tree, Mapping) or key not in tree:
            raise KeyError(f"settings have no {path!r}")
        tree = tree[key]
    return tree


def resolve_path(path: str) -> Path:
    """A path of the settings: absolute as it is, relative to the project directory otherwise."""
    return (PROJECT_DIR / Path(path).expanduser()).resolve()


def profile_names() -> list[str]:
    """Profiles that exist in `config/profiles`."""
    return sorted(path.stem for path in (CONFIG_DIR / "profiles").glob("*.yaml"))


def load_settings(
    profile: str | None = None, *, overrides: Mapping[str, Any] | None = None, config_dir: Path = CONFIG_DIR
) -> Settings:
    """Settings of `config.yaml`, the profile over it, and `overrides` (a nested mapping) over both.

    Without a profile: environment variable `SMARTDEVDIGEST_PROFILE`, then `sample`. The environment can lay more over
    the profile, for processes that get no arguments: `SMARTDEVDIGEST_STORE` (the store's root) and
    `SMARTDEVDIGEST_OVERRIDES` (a YAML mapping).

    Raises:
        SettingsError: a file is missing or unreadable, or a key, type or combination is wrong.
    """
    profile = profile or os.environ.get("SMARTDEVDIGEST_PROFILE") or DEFAULT_PROFILE
    profile_file = config_dir / "profiles" / f"{profile}.yaml"
    if not profile_file.is_file():
        raise SettingsError(
            f"There is no profile {profile!r}: {profile_file} does not exist. Profiles: {', '.join(profile_names())}."
        )
    tree = _merge(_read_yaml(config_dir / "config.yaml"), _read_yaml(profile_file))
    if store := os.environ.get("SMARTDEVDIGEST_STORE"):
        tree = _merge(tree, {"store": {"root": store}})
    if text := os.environ.get(OVERRIDES_VARIABLE):
        tree = _merge(tree, parse_overrides(text))
    tree = _merge(tree, dict(overrides or {})) | {"profile": profile}
    try:
        return Settings.model_validate(tree)
    except ValidationError as error:
        raise SettingsError(_explain(error, profile)) from None


def parse_overrides(text: str) -> dict[str, Any]:
    """The mapping that `SMARTDEVDIGEST_OVERRIDES` holds.

    Raises:
        SettingsError: it is not a YAML mapping.
    """
    try:
        tree = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SettingsError(f"{OVERRIDES_VARIABLE} is not YAML: {error}") from None
    if not isinstance(tree, dict):
        raise SettingsError(f"{OVERRIDES_VARIABLE} must hold a YAML mapping of settings, found {text[:80]!r}.")
    return tree


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise SettingsError(f"{path} could not be read: {error}") from None
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise SettingsError(f"{path} must hold a mapping of settings, found {type(tree).__name__}.")
    return tree


def _merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = copy.deepcopy(dict(base))
    for key, value in over.items():
        if isinstance(value, Mapping) and isinstance(merged.get(key), Mapping):
            merged[key] = _merge(merged[key], value)
        else:
            merged[key] = copy.deepcopy(value)
    return merged


def _explain(error: ValidationError, profile: str) -> str:
    lines = []
    for problem in error.errors():
        path = ".".join(str(part) for part in problem["loc"]) or "(combination)"
        if problem["type"] == "extra_forbidden":
            known = sorted(_fields_at(problem["loc"][:-1]))
            lines.append(f"  {path}: unknown key. Known here: {', '.join(known)}.")
        elif problem["type"] == "missing":
            lines.append(f"  {path}: missing, and it has no default.")
        else:
            message = problem["msg"].removeprefix("Value error, ")
            found = "" if isinstance(problem["input"], dict | BaseModel) else f", found {problem['input']!r}"
            lines.append(f"  {path}: {message}{found}")
    return f"The settings (config/config.yaml with profile {profile!r} over it) are refused:\n" + "\n".join(lines)


def _fields_at(location: tuple[int | str, ...]) -> set[str]:
    model: Any = Settings
    for part in location:
        field = getattr(model, "model_fields", {}).get(part)
        model = field.annotation if field else None
    return set(getattr(model, "model_fields", {}))
