"""M1: the base model, its embeddings extended to the domain tokenizer, adapted to the corpus.

Packed causal language modelling of all weights on the train split. What it gains is measured in bits per byte on
held-out documents, per language, three times: the base with its own tokenizer, right after the extension (which costs:
new rows start as means), and after training.
"""

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from smartdevdigest_ops.artifacts import write_atomically
from smartdevdigest_ops.corpus.read import map_split, read_split
from smartdevdigest_ops.models.devices import choose_device, choose_dtype, use_threads
from smartdevdigest_ops.models.embeddings import extend_embeddings
from smartdevdigest_ops.stage import Check, CheckResult, Stage, StageContext, StageReport
from smartdevdigest_ops.training.bits_per_byte import bits_per_byte
from smartdevdigest_ops.training.packing import pack_documents
from smartdevdigest_ops.training.trainer import TrainingData, TrainingRun, train

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

# Below that, which languages a quarter's few batches hold decides its mean: a Korean token costs twice an English one.
MIN_STEPS_TO_JUDGE = 24


def make_m1_checkpoint(context: StageContext) -> StageReport:
    """Extend, train and save the model; report what it gained."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, set_seed

    settings = context.settings.training.m1
    sequence_length = settings.sequence_length or context.settings.model.max_length
    use_threads(context.settings.model.threads)
    device = choose_device(context.settings.model.device)
    set_seed(context.settings.seed)
    base_dir = context.input("base_model").path
    tokenizer_dir = context.input("domain_tokenizer").path
    corpus_dir = context.input("corpus_snapshot").path

    base_tokenizer = AutoTokenizer.from_pretrained(base_dir)
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_dir)
    texts = map_split(corpus_dir, "train", cache_dir=context.scratch / "mapped")["content"]
    packed = pack_documents(tokenizer, texts, sequence_length=sequence_length, seed=context.settings.seed)
    context.log(
        f"m1_checkpoint: {packed.num_documents} documents packed into {len(packed)} sequences of {sequence_length} "
        f"tokens; {packed.num_tokens_dropped} tokens of the last, incomplete one dropped"
    )
    held_out = HeldOut(
        texts_by_language(
            read_split(corpus_dir, "valid"), settings.evaluation_documents, settings.evaluation_characters
        ),
        sequence_length=sequence_length,
        batch_size=settings.batch_size,
        context=context,
    )
    # Master weights are float32 on every device; on cuda the Trainer computes in bfloat16 over them.
    model = AutoModelForCausalLM.from_pretrained(base_dir, dtype=torch.float32).to(device)
    base = held_out.measure("base", model, base_tokenizer)
    extend_embeddings(model, json.loads((tokenizer_dir / "new_tokens.json").read_text(encoding="utf-8")))
    extended = held_out.measure("extended", model, tokenizer)
    run = train(
        model,
        TrainingData(train=packed, sequences_per_item=1),
        stage="m1_checkpoint",
        settings=settings,
        context=context,
        embedding_learning_rate=settings.embedding_learning_rate,
    )
    trained = held_out.measure("trained", model, tokenizer)

    model.to(choose_dtype(context.settings.model.precision, device))
    model.save_pretrained(context.out)
    tokenizer.save_pretrained(context.out)
    run.write_curve(context.out)
    scores = {"base": base, "extended": extended, "trained": trained}
    return StageReport(
        metrics={
            f"bits_per_byte_{language}_{name}": value for name, row in scores.items() for language, value in row.items()
        }
        | {
            "train_loss": last_quarter(run.losses),
            "num_steps": run.num_steps,
            "tokens_seen": run.tokens_seen,
            # What the tokens stand for on average: a packed sequence does not know its own bytes.
            "bytes_seen": round(run.tokens_seen * packed.bytes_per_token),
            "num_tokens_dropped": packed.num_tokens_dropped,
            "tokens_per_second": run.tokens_per_second,
            "num_parameters": model.num_parameters(),
        },
        checks=(
            check_loss(run),
            check_weights(model),
            check_held_out(extended, trained),
            check_vocabulary(model, tokenizer),
        ),
        notes={"markdown": scores_table(scores)},
    )


def texts_by_language(
    rows: Sequence[Mapping[str, str]], max_documents: int, max_characters: int
) -> dict[str, list[str]]:
    """Per language that occurs, the first `max_documents` texts (rows are in hash order), cut to `max_characters`."""
    texts: dict[str, list[str]] = {}
    for row in rows:
        of_language = texts.setdefault(row["language"], [])
        if len(of_language) < max_documents:
            of_language.append(row["content"][:max_characters])
    return dict(sorted(texts.items()))


class HeldOut:
    """Bits per byte of held-out texts, per language. What was measured before a kill is not measured again."""

    def __init__(
        self, texts: Mapping[str, list[str]], *, sequence_length: int, batch_size: int, context: StageContext
    ) -> None:
        self._texts = texts
        self._sequence_length = sequence_length
        self._batch_size = batch_size
        self._log = context.log
        self._file: Path = context.scratch / "bits_per_byte.json"
        self._scores: dict[str, dict[str, float]] = (
            json.loads(self._file.read_text(encoding="utf-8")) if self._file.is_file() else {}
        )

    def measure(self, name: str, model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase") -> dict[str, float]:
        """Bits per byte by language of `model`, known as `name` in the log."""
        if name not in self._scores:
            self._scores[name] = {
                language: bits_per_byte(
                    model, tokenizer, texts, sequence_length=self._sequence_length, batch_size=self._batch_size
                )
                for language, texts in self._texts.items()
            }
            write_atomically(self._file, json.dumps(self._scores))
        found = ", ".join(f"{language} {value:.3f}" for language, value in self._scores[name].items())
        self._log(f"m1_checkpoint: bits per byte, {name}: {found or 'no held-out documents'}")
        return self._scores[name]


def last_quarter(losses: Sequence[float]) -> float:
    """Mean of the last quarter of a run's losses: one step's is noise."""
    return statistics.fmean(losses[-max(1, len(losses) // 4) :])


def check_loss(run: TrainingRun) -> CheckResult:
    """Every loss is finite, and the last quarter's mean lies below the first's (runs of 24 steps and more)."""
    losses = run.losses
    first = statistics.fmean(losses[: max(1, len(losses) // 4)])
    last = last_quarter(losses)
    finite = all(math.isfinite(loss) for loss in losses)
    message = f"train loss {first:.3f} in the first quarter, {last:.3f} in the last, over {len(losses)} steps"
    if len(losses) < MIN_STEPS_TO_JUDGE:
        return CheckResult("loss_is_finite_and_falls", finite, f"{message}: too few to ask for a fall, only for finite")
    return CheckResult("loss_is_finite_and_falls", finite and last < first, message)


def check_weights(model: "PreTrainedModel") -> CheckResult:
    """No weight is NaN or infinite."""
    broken = [name for name, weight in model.state_dict().items() if not weight.isfinite().all()]
    message = f"not finite: {', '.join(broken[:5])}" if broken else f"{model.num_parameters():,} weights are finite"
    return CheckResult("weights_are_finite", not broken, message)


def check_held_out(extended: Mapping[str, float], trained: Mapping[str, float]) -> CheckResult:
    """Training lowered the bits per byte of every language that has held-out documents."""
    if not extended:
        return CheckResult("held_out_improves", False, "the valid split is empty: what training gained is unknown")
    worse = [language for language in extended if trained[language] >= extended[language]]
    changes = ", ".join(f"{name} {extended[name]:.3f} -> {trained[name]:.3f}" for name in extended)
    return CheckResult("held_out_improves", not worse, f"bits per byte after extension -> after training: {changes}")


def check_vocabulary(model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase") -> CheckResult:
    """Every token has a row in the input and output embeddings; rows beyond the tokens are the base's padding."""
    size = len(tokenizer)
    rows = model.get_input_embeddings().weight.shape[0]
    output_rows = model.get_output_embeddings().weight.shape[0]
    passed = size <= rows == output_rows == model.config.vocab_size
    return CheckResult(
        "vocabulary_matches_tokenizer",
        passed,
        f"{size} tokens; {rows} input rows, {output_rows} output rows, config.vocab_size {model.config.vocab_size}",
    )


def scores_table(scores: Mapping[str, Mapping[str, float]]) -> str:
    """Markdown table of bits per byte: languages down, states of the model across."""
    languages = sorted({language for row in scores.values() for language in row})
    lines = [f"| bits per byte | {' | '.join(scores)} |", "|---" * (len(scores) + 1) + "|"]
    lines += [f"| {name} | {' | '.join(f'{row[name]:.3f}' for row in scores.values())} |" for name in languages]
    return "\n".join(lines)


STAGE = Stage(
    name="m1_checkpoint",
    make=make_m1_checkpoint,
    code_version="1",
    inputs=("base_model", "domain_tokenizer", "corpus_snapshot"),
    settings=("training.m1", "model.max_length", "model.precision", "seed"),
    checks=(
        Check("loss_is_finite_and_falls", "Every train loss is finite; the last quarter's mean is below the first's."),
        Check("weights_are_finite", "No weight is NaN or infinite."),
        Check(
            "held_out_improves",
            "Held-out bits per byte after training are below those right after the extension.",
            blocking=False,
        ),
        Check("vocabulary_matches_tokenizer", "Every token of the tokenizer has an embedding row."),
    ),
    own_process=True,
)
