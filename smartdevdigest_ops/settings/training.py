"""Base model, tokenizer, training and how it is followed."""

from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from smartdevdigest_ops.settings.section import Section


class ModelSettings(Section):
    """The base model and how models are held."""

    base_model: str = Field(
        description="`package:NAME/FILE.gguf`, `hf:ORG/NAME[@REVISION]`, a local directory, or `tiny-random-llama`."
    )
    accept_terms: str | None = Field(
        None,
        description="Name of the terms that you accept (`gemma`), for a base model that is under terms of its own.",
    )
    use_gptq: bool = Field(True, description="Quantize the merged model to 4 bits; false ships it unquantized.")
    device: Literal["auto", "cuda", "mps", "cpu"] = Field("auto", description="auto: cuda, then mps, then cpu.")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="auto: bfloat16 on cuda, and for training on CPUs that have instructions for it; else float32.",
    )
    threads: int = Field(0, ge=0, description="CPU threads; 0: as many as cores.")
    max_length: int = Field(gt=63, description="T: longest sequence in tokens, prompt and answer together.")


class TokenizerSettings(Section):
    """Continued BPE on the base tokenizer."""

    num_new_tokens: int = Field(
        2000, ge=0, description="At most so many merges learned on the corpus, beside required_terms; 0: none."
    )
    required_terms: tuple[str, ...] = Field((), description="Each becomes one token, with and without a leading space.")
    min_gain: float = Field(
        5e-5,
        ge=0,
        lt=1,
        description="Least share of the train split's tokens that a merge saves. A base that speaks the languages "
        "already falls below it sooner, and learns fewer merges or none.",
    )
    min_frequency: int = Field(
        8, gt=0, description="Least votes of a pair that is merged; an occurrence has one vote or less (weights)."
    )
    min_documents: int = Field(
        3, gt=0, description="Documents that a word must stand in to vote: no page's identifier becomes a token."
    )
    weights: dict[str, float] | None = Field(
        None,
        description="Votes of an occurrence by kind of text: ko, en (prose) and code; 1 where a kind is left out. "
        "null: by balance.",
    )
    balance: float = Field(
        0.5,
        ge=0,
        le=1,
        description="How far the votes of ko, en and code are evened out: 0 as the corpus has them, 1 equal.",
    )
    korean_morphemes: bool = Field(
        False, description="Learn no merge across a morpheme border of a Korean word (Kiwi)."
    )
    max_token_characters: int = Field(24, gt=1, description="Longest new token, its leading space counted.")

    @field_validator("weights")
    @classmethod
    def _weights_are_positive(cls, weights: dict[str, float] | None) -> dict[str, float] | None:
        if refused := [kind for kind, weight in (weights or {}).items() if not weight > 0]:
            raise ValueError(
                f"weights of {', '.join(refused)} are not above 0: without votes a kind of text gets no token of its "
                "own. Give each kind a positive weight, or leave it out for 1."
            )
        return weights


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
    evaluation_steps: int | None = Field(
        None,
        gt=0,
        description="Optimizer steps between held-out losses, of which the lowest decides the weights that are kept; "
        "null: at most four parts of 25 to 500 steps.",
    )
    early_stopping_evaluations: int | None = Field(
        None,
        gt=0,
        description="Stop after so many held-out losses in a row without a new lowest one; null: go through.",
    )
    divergence_factor: float = Field(
        2.0, gt=1, description="A loss above so many times its running median counts as diverging."
    )
    divergence_steps: int = Field(5, gt=0, description="So many diverging steps in a row stop the training.")

    @model_validator(mode="after")
    def _warmup_fits_the_budget(self) -> Self:
        if self.max_steps is not None and self.warmup_steps >= self.max_steps:
            raise ValueError(
                f"warmup_steps={self.warmup_steps} is not below max_steps={self.max_steps}: "
                "the learning rate would never reach its peak. Lower warmup_steps."
            )
        return self


class LoraSettings(Section):
    """The adapter's shape (LoRA, arXiv 2106.09685)."""

    rank: int = Field(16, gt=0, description="r")
    alpha: int = Field(32, gt=0, description="Scale: alpha / r multiplies the adapter's output.")
    dropout: float = Field(0.0, ge=0, lt=1)
    target_modules: Literal["all-linear"] | tuple[str, ...] = Field(
        "all-linear", description="Layers that get an adapter."
    )
    rslora: bool = Field(
        False, description="alpha / sqrt(r) scales the output instead: high ranks learn on (arXiv 2312.03732)."
    )
    dora: bool = Field(
        False, description="Train magnitude and direction of the weights apart (arXiv 2402.09353): slower by a third."
    )


class NewRowsSettings(Section):
    """How the embedding rows of new tokens start, before M1 trains anything."""

    method: Literal["mean", "fitted"] = Field(
        "fitted",
        description="mean: of the rows of the sub-tokens. fitted: from there, what they predict and how they are read "
        "is fitted to the frozen base model on snippets of the train split.",
    )
    pad_to_multiple: int = Field(
        64, gt=0, description="Rows are filled up to a multiple of it where the matrix must grow; tokens are not."
    )
    max_base_tokens: int = Field(
        120_000, gt=127, description="Budget: snippets of so many base tokens together, each read once by the base."
    )
    snippet_tokens: int = Field(128, gt=15, description="Base tokens of one snippet, at most.")
    occurrences: int = Field(25, gt=0, description="How often snippets are to show each new token, budget permitting.")
    output_epochs: int = Field(
        6, ge=0, description="Passes over the base's states that fit the rows as outputs. Cheap: no layer is computed."
    )
    passes: int = Field(2, ge=0, description="Passes over the snippets through all layers, after that.")
    batch_size: int = Field(8, gt=0, description="Snippets at a time.")
    learning_rate: float = Field(
        0.0075, gt=0, lt=1, description="Peak rate of Adam, as a share of the rows' root mean square."
    )


class M1Settings(TrainingSettings):
    """Domain adaptation of the base model (M1)."""

    embedding_learning_rate: float | None = Field(
        None, gt=0, lt=1, description="Peak rate of the embedding matrix; null: learning_rate."
    )
    evaluation_characters: int = Field(
        4000, gt=0, description="First so many characters of each held-out document are scored in bits per byte."
    )
    new_rows: NewRowsSettings = NewRowsSettings()
    objective: Literal["clm", "mlm", "mixed"] = Field(
        "clm",
        description="clm: next tokens. mlm: next tokens, of inputs of which mask_ratio are masked (MEAP). "
        "mixed: masked_share of the sequences mlm, the others clm.",
    )
    mask_ratio: float = Field(0.15, gt=0, lt=1, description="Share of the input tokens that mlm masks.")
    mask_token: str | None = Field(
        None, description="Token that masks; null: the tokenizer's own, else a reserved or unused special token."
    )
    masked_share: tuple[tuple[float, float], ...] = Field(
        ((0.0, 1.0), (1.0, 0.0)),
        description="For mixed: (part of the run done, share of masked sequences), a straight line between two.",
    )
    trainable: Literal["full", "embeddings_first", "lora", "qlora"] = Field(
        "full",
        description="full: all weights. embeddings_first: the embedding matrices for embedding_steps, then all. lora: "
        "an adapter and the new tokens' rows. qlora: the same over 4-bit weights (cuda, extra bitsandbytes).",
    )
    embedding_steps: int | None = Field(
        None, gt=0, description="For embeddings_first: optimizer steps of its first phase; null: a quarter of the run."
    )
    lora: LoraSettings = Field(LoraSettings(), description="The adapter of trainable=lora and qlora.")
    replay_share: float = Field(
        0.05,
        ge=0,
        lt=1,
        description="Share of the sequences that are general text (data.general_paths), read again and again where "
        "there is less of it than the share takes: the metric replay_passes is how often. See M1's gate.",
    )
    max_general_increase: float | None = Field(
        0.1,
        gt=0,
        description="Gate: bits per byte of general text may rise by this part over the base model's, in any "
        "language; null: measured, not gated.",
    )
    compare_unextended: bool = Field(
        False,
        description="Train the base model with its own tokenizer by the same recipe on as many tokens, and say which "
        "of the two is better. Doubles M1's time.",
    )

    @model_validator(mode="after")
    def _the_schedule_covers_the_run(self) -> Self:
        done = [point[0] for point in self.masked_share]
        shares = [point[1] for point in self.masked_share]
        rises = all(earlier < later for earlier, later in pairwise(done))
        if not done or not rises or done[0] != 0 or (len(done) > 1 and done[-1] != 1):
            raise ValueError(
                f"masked_share={self.masked_share} must go from 0 (nothing of the run done) to 1 in rising order, or "
                "be the one point (0, SHARE); elsewhere the share would be undefined."
            )
        if not all(0 <= share <= 1 for share in shares):
            raise ValueError(f"masked_share={self.masked_share} has a share that is not between 0 and 1.")
        return self

    @model_validator(mode="after")
    def _the_first_phase_fits_the_run(self) -> Self:
        steps = self.embedding_steps
        if self.trainable != "embeddings_first" or steps is None:
            return self
        if self.max_steps is not None and steps >= self.max_steps:
            raise ValueError(
                f"embedding_steps={steps} is not below max_steps={self.max_steps}: nothing but the embeddings would "
                "be trained. Lower embedding_steps."
            )
        return self


class M2Settings(TrainingSettings):
    """Instruction tuning on the digest JSON (M2)."""

    lora: LoraSettings = LoraSettings()
    trainable: Literal["lora", "qlora"] = Field(
        "lora", description="qlora: the adapter learns over M1 held in 4 bits (cuda, package bitsandbytes)."
    )
    packing: bool = Field(
        False,
        description="Fill each sequence with several examples, which do not attend to each other: batch_size then "
        "counts full sequences, and nothing is padding but their ends.",
    )


class TrainingStages(Section):
    """Both training stages."""

    m1: M1Settings
    m2: M2Settings
    processes: Literal["auto"] | Annotated[int, Field(gt=0)] = Field(
        "auto", description="Processes that share an optimizer step; auto: one per GPU, 1 without."
    )
    sharding: Literal["auto", "replicated", "full"] = Field(
        "auto",
        description="Of several processes: replicated, each holds the whole model (DDP). full: each holds a part of "
        "every weight, gradient and moment (FSDP2). auto: full on GPUs where not even the smallest micro-batch fits "
        "replicated.",
    )
    compile: bool = Field(
        False,
        description="torch.compile the model: minutes of compiling, for long runs on GPUs (1.0x on two CPU cores).",
    )


class TrackingSettings(Section):
    """How a training is followed and kept safe: TensorBoard, Weights & Biases (extra `wandb`), checkpoints."""

    tensorboard: bool = Field(
        True,
        description="Write event files below the store's .tracking/tensorboard: `tensorboard --logdir` shows them.",
    )
    wandb: Literal["disabled", "offline", "online"] = Field("disabled")
    project: str = Field("smartdevdigest")
    checkpoint_steps: int | None = Field(
        None,
        gt=0,
        description="Optimizer steps between checkpoints; null: at most four parts of 25 to 500 steps.",
    )
    checkpoint_keep: int = Field(
        2, gt=1, description="Newest checkpoints that are kept, beside the best; two at least, should one be damaged."
    )
