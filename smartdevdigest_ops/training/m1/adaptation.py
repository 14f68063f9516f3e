"""One adaptation of a model to the corpus: its stream of sequences, its phases, its curve."""

import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smartdevdigest_ops.artifacts import write_atomically
from smartdevdigest_ops.settings import M1Settings
from smartdevdigest_ops.stage import StageContext
from smartdevdigest_ops.training.errors import TrainingError
from smartdevdigest_ops.training.m1.general import GeneralText
from smartdevdigest_ops.training.m1.objectives import build_objective
from smartdevdigest_ops.training.m1.stream import TrainingStream
from smartdevdigest_ops.training.m1.trainable import (
    Phase,
    add_adapter_and_rows,
    choose_trainable,
    hold_in_four_bits,
    merge_adapter,
    merge_into_whole,
    plan_phases,
)
from smartdevdigest_ops.training.packing import PackedDocuments, pack_documents
from smartdevdigest_ops.training.trainer.run import TrainingData, TrainingRun, count_steps, train

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

STAGE_NAME = "m1_checkpoint"
# Of the run's computing: what measuring the held-out loss of its checkpoints may cost.
_MAX_EVALUATION_SHARE = 0.05
# Up to four passes teach almost what as much new text would (Muennighoff et al. 2023, arXiv 2305.16264, section 6).
_WORTHWHILE_PASSES = 4


@dataclass(frozen=True)
class Texts:
    """What a run reads, before it is tokenized."""

    corpus: Callable[[], Iterable[str]]
    """Reads the train split anew, document by document."""
    name_of: Callable[[int], str]
    """URL of a document of the train split, by its number."""
    general: GeneralText
    held_out: Sequence[str]
    """To choose the best checkpoint by."""


@dataclass(frozen=True)
class Adaptation:
    """A model that was trained."""

    model: "PreTrainedModel"
    run: TrainingRun
    stream: TrainingStream
    """As planned, see `read`."""
    num_trainable: int
    """Weights that were trained in the last phase."""
    sequences_per_step: int

    @property
    def read(self) -> TrainingStream:
        """What was read of the stream: less of it where the run was stopped early."""
        return self.stream.part(0, self.run.num_steps * self.sequences_per_step)

    @property
    def text_bytes(self) -> int:
        """UTF-8 bytes of the corpus that were read, repeats counted, replay not."""
        return self.stream.corpus_bytes(len(self.read))

    def curve(self) -> list[dict[str, float]]:
        """The run's curve, with `text_bytes` read until each step."""
        items = [int(row["step"]) * self.sequences_per_step for row in self.run.curve]
        return [
            row | {"text_bytes": self.stream.corpus_bytes(num_items)}
            for row, num_items in zip(self.run.curve, items, strict=True)
        ]


@dataclass(frozen=True)
class Compared:
    """What is compared of two runs."""

    bits_per_byte: dict[str, float]
    """Of the corpus, by language."""
    tokens_seen: int
    text_bytes: int

    def write(self, path: Path) -> None:
        """Save as JSON, whole or not at all."""
        write_atomically(path, json.dumps(asdict(self)))

    @classmethod
    def read(cls, path: Path) -> "Compared | None":
        """What `write` saved, if it did."""
        return cls(**json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None


def build_stream(
    tokenizer: "PreTrainedTokenizerBase",
    texts: Texts,
    model_config: Any,
    *,
    settings: M1Settings,
    context: StageContext,
) -> TrainingStream:
    """The sequences of the whole run, in its order.

    Raises:
        TrainingError: there is less text than one sequence, or nothing to mask with.
    """
    sequence_length = settings.sequence_length or context.settings.model.max_length
    seed = context.settings.seed
    packed = pack_documents(
        tokenizer,
        texts.corpus(),
        sequence_length=sequence_length,
        seed=seed,
        cache_dir=context.store.root / ".token_ids",
        name_of=texts.name_of,
        log=context.log,
    )
    general = _pack_general(tokenizer, texts.general, sequence_length, seed) if settings.replay_share else None
    num_steps = count_steps(math.ceil(len(packed) / (1 - settings.replay_share)), settings, STAGE_NAME)
    stream = TrainingStream(
        packed,
        num_steps * sequences_per_step(settings),
        seed,
        general=general,
        replay_share=settings.replay_share,
        objective=build_objective(settings, tokenizer, model_config),
    )
    context.log(
        f"{STAGE_NAME}: {packed.num_documents} documents packed into {len(packed)} sequences of {sequence_length} "
        f"tokens ({packed.num_tokens_dropped} tokens of the last, incomplete one dropped); the run draws {len(stream)} "
        f"sequences, {stream.num_replayed} of them general text"
    )
    if general is not None:
        context.log(say_replay(general, stream))
    return stream


def adapt(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    texts: Texts,
    *,
    settings: M1Settings,
    context: StageContext,
    new_ids: Sequence[int] = (),
) -> Adaptation:
    """Train `model` on the texts, in the phases of the settings; `new_ids` are the rows that an adapter trains beside.

    Checkpoints go to `context.scratch`; a making that was killed goes on where it was.

    Raises:
        TrainingError: see `train`, `build_stream` and `plan_phases`.
    """
    from transformers import set_seed

    stream = build_stream(tokenizer, texts, model.config, settings=settings, context=context)
    per_step = sequences_per_step(settings)
    phases = plan_phases(settings, len(stream) // per_step)
    whole_dir = context.scratch / "whole"
    trained: Any = model
    if settings.trainable == "qlora":
        trained = hold_in_four_bits(model, whole_dir)
    if settings.trainable in ("lora", "qlora"):
        set_seed(context.settings.seed)  # the adapter's first weights are drawn, whatever was drawn before a kill
        trained = add_adapter_and_rows(trained, settings.lora, new_ids)
    runs: list[TrainingRun] = []
    first = num_trainable = 0
    for phase in phases:
        num_trainable = choose_trainable(trained, phase)
        is_last = phase is phases[-1]
        context.log(f"{STAGE_NAME}: {phase.num_steps} steps, {num_trainable:,} trainable weights ({phase.name})")
        part = stream.part(first * per_step, (first + phase.num_steps) * per_step)
        runs.append(
            train(
                trained,
                TrainingData(
                    train=part,
                    sequences_per_item=1,
                    in_order=True,
                    held_out=_sequences_to_choose_by(tokenizer, texts, stream) if is_last else None,
                    max_evaluation_share=_MAX_EVALUATION_SHARE,
                    bytes_per_token=stream.corpus.bytes_per_token,
                ),
                stage=STAGE_NAME,
                settings=settings_of(phase, settings),
                context=context if is_last else _beside(context, phase.name),
                embedding_learning_rate=settings.embedding_learning_rate,
            )
        )
        first += phase.num_steps
    if settings.trainable == "qlora":
        trained = merge_into_whole(trained, whole_dir, settings.lora, new_ids)
    elif settings.trainable == "lora":
        trained = merge_adapter(trained)
    return Adaptation(trained, join_runs(runs), stream, num_trainable, per_step)


def sequences_per_step(settings: M1Settings) -> int:
    """Sequences of one optimizer step, whatever the number of processes."""
    return settings.batch_size * settings.gradient_accumulation


def settings_for_tokens(settings: M1Settings, num_tokens: int, sequence_length: int) -> M1Settings:
    """The settings of a run that reads `num_tokens` at least, however little text there is for them.

    Passes are not limited: a step holds one sequence at the least, so that as many passes as sequences reach the last
    step, also over a text of fewer sequences than one step takes. Nor does the run stop early.
    """
    steps = math.ceil(num_tokens / (sequence_length * sequences_per_step(settings)))
    passes = float(steps * sequences_per_step(settings))
    return settings.model_copy(update={"max_steps": steps, "epochs": passes, "early_stopping_evaluations": None})


def settings_of(phase: Phase, settings: M1Settings) -> M1Settings:
    """The settings of a phase: its part of the stream is its one epoch."""
    warmup_steps = min(settings.warmup_steps, phase.num_steps - 1)
    return settings.model_copy(update={"epochs": 1.0, "max_steps": phase.num_steps, "warmup_steps": warmup_steps})


def join_runs(runs: Sequence[TrainingRun]) -> TrainingRun:
    """The phases as one run: steps and tokens are counted on."""
    curve: list[dict[str, float]] = []
    steps = tokens = 0
    seconds = 0.0
    for number, run in enumerate(runs):
        phase = {"phase": number} if len(runs) > 1 else {}
        curve += [row | phase | {"step": row["step"] + steps, "tokens": row["tokens"] + tokens} for row in run.curve]
        steps += run.num_steps
        tokens += run.tokens_seen
        seconds += run.tokens_seen / run.tokens_per_second if run.tokens_per_second else 0.0
    return replace(
        runs[-1],
        curve=curve,
        num_steps=steps,
        tokens_seen=tokens,
        tokens_per_second=tokens / seconds if seconds else 0.0,
    )


def _pack_general(
    tokenizer: "PreTrainedTokenizerBase", general: GeneralText, sequence_length: int, seed: int
) -> PackedDocuments:
    documents = general.replay
    return pack_documents(
        tokenizer,
        [document.text for document in documents],
        sequence_length=sequence_length,
        seed=seed,
        name_of=lambda number: f"general text {documents[number].id}",
        what="data.general_paths holds, to be replayed,",
    )


def say_replay(general: PackedDocuments, stream: TrainingStream) -> str:
    """How often the general text is read, and what to do where that is too often."""
    said = (
        f"{STAGE_NAME}: replay reads the {len(general)} sequences of general text "
        f"({len(general) * general.sequence_length:,} tokens) {stream.replay_passes:.1f} times"
    )
    if stream.replay_passes <= _WORTHWHILE_PASSES:
        return said
    needed = math.ceil(stream.num_replayed / _WORTHWHILE_PASSES) * general.sequence_length
    return (
        f"{said}; beyond {_WORTHWHILE_PASSES} passes text teaches less and less and is learned by heart. Add files to "
        f"data.general_paths (about {needed:,} tokens in all are enough) or lower training.m1.replay_share"
    )


def _sequences_to_choose_by(
    tokenizer: "PreTrainedTokenizerBase", texts: Texts, stream: TrainingStream
) -> PackedDocuments | None:
    """Held-out sequences; None where there is less than one of them, and the last checkpoint is kept."""
    try:
        return pack_documents(
            tokenizer, texts.held_out, sequence_length=stream.corpus.sequence_length, seed=stream.seed
        )
    except TrainingError:
        return None


def _beside(context: StageContext, name: str) -> StageContext:
    """The context with a scratch directory of its own."""
    scratch = context.scratch / name
    scratch.mkdir(parents=True, exist_ok=True)
    return replace(context, scratch=scratch)
