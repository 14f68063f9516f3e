"""M1: the base model, its embeddings extended to the domain tokenizer, adapted to the corpus.

1. Measure the base model with its own tokenizer: bits per byte of held-out documents by language, and of general text.
2. Extend its embeddings to the new tokens, fit the new rows; measure (what the extension costs before training).
3. Train on the packed train split, a share of general text replayed; measure.
4. Where it is asked for, train the base model with its own tokenizer by the same recipe on as many tokens, those that
   fitting the new rows took included, and compare.

What a sequence asks is in objectives.py, which weights learn in trainable.py, what is read when in stream.py.
"""

import gc
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smartdevdigest_ops.artifacts import ArtifactStore
from smartdevdigest_ops.corpus.read import map_split
from smartdevdigest_ops.models.devices import choose_device, choose_dtype, use_threads
from smartdevdigest_ops.models.embeddings import extend_embeddings
from smartdevdigest_ops.models.terms import carry_terms
from smartdevdigest_ops.settings import M1Settings, Settings
from smartdevdigest_ops.stage import CheckResult, Stage, StageContext, StageReport
from smartdevdigest_ops.stage.distributed import num_processes
from smartdevdigest_ops.training.encoding import parquet_texts
from smartdevdigest_ops.training.four_bits import refuse_qlora_where_impossible
from smartdevdigest_ops.training.m1.adaptation import Adaptation, Compared, Texts, adapt, settings_for_tokens
from smartdevdigest_ops.training.m1.checks import (
    CHECKS,
    check_general,
    check_held_out,
    check_loss,
    check_tokenizer,
    check_vocabulary,
    check_weights,
    last_quarter,
)
from smartdevdigest_ops.training.m1.general import find_general_files, read_general, refuse_missing_text
from smartdevdigest_ops.training.m1.held_out import (
    GENERAL_PREFIX,
    HeldOut,
    of_corpus,
    of_general,
    scores_table,
    texts_by_language,
)
from smartdevdigest_ops.training.m1.objectives import refuse_encoder
from smartdevdigest_ops.training.m1.trainable import refuse_adapters_in_parts
from smartdevdigest_ops.training.new_rows.fit import fit_new_rows
from smartdevdigest_ops.training.plan.memory import StepShape
from smartdevdigest_ops.training.trainer.sharding import choose_sharding, gather, load_for_sharding, shard

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def make_m1_checkpoint(context: StageContext) -> StageReport:
    """Extend, train and save the model; report what it gained, forgot and cost."""
    from transformers import set_seed

    use_threads(context.settings.model.threads)
    set_seed(context.settings.seed)
    m1 = _M1(context)
    m1.refuse_what_cannot_be()
    made = m1.train_extended()
    unextended = m1.train_unextended(made.compared.tokens_seen + m1.num_fitting_tokens) if m1.compares else None
    tokenizer_check = check_tokenizer(len(m1.new_tokens), made.compared, unextended)
    scores = made.scores | ({"unextended": unextended.bits_per_byte} if unextended else {})
    return StageReport(
        metrics=made.metrics
        | {"num_fitting_tokens": m1.num_fitting_tokens}
        | _score_metrics(scores)
        | ({"text_bytes_unextended": unextended.text_bytes} if unextended else {}),
        checks=(*made.checks, tokenizer_check),
        notes={"markdown": scores_table(made.scores), "objective": m1.settings.objective}
        | {"trainable": m1.settings.trainable}
        | made.notes,
    )


@dataclass(frozen=True)
class _Made:
    """What is left of the trained model once it is saved, and its memory free for another."""

    scores: dict[str, dict[str, float]]
    compared: Compared
    metrics: dict[str, float]
    checks: tuple[CheckResult, ...]
    notes: dict[str, Any]


class _M1:
    """The inputs of one making, and the two runs over them."""

    def __init__(self, context: StageContext) -> None:
        self.context = context
        self.settings: M1Settings = context.settings.training.m1
        self.device = choose_device(context.settings.model.device)
        self._base_dir = context.input("base_model").path
        self._tokenizer_dir = context.input("domain_tokenizer").path
        self._corpus_dir = context.input("corpus_snapshot").path
        self.new_tokens: list[Mapping[str, Any]] = json.loads(
            (self._tokenizer_dir / "new_tokens.json").read_text(encoding="utf-8")
        )
        self._general = read_general(find_general_files(context.settings.data.general_paths))
        self.num_fitting_tokens = 0
        """Tokens that fitting the new rows read, once with the base model and once more on the way back: about the
        computing of training on as many."""

    @property
    def compares(self) -> bool:
        """Whether the unextended base model is trained too: without new tokens it would be the same run again."""
        return self.settings.compare_unextended and bool(self.new_tokens)

    @cached_property
    def sharded(self) -> bool:
        """Whether the processes cut the model up, see `choose_sharding`."""
        from transformers import AutoConfig

        refuse_adapters_in_parts(self.context.settings.training.sharding, self.settings.trainable)
        if self.settings.trainable in ("lora", "qlora"):
            return False
        step = StepShape(
            trainable=self.settings.trainable,
            batch_size=1,
            sequence_length=self._sequence_length,
            accumulates=True,
            precision="float32" if self.context.settings.model.precision == "float32" else "bfloat16",
            is_packed=True,
            num_devices=num_processes(),
        )
        return choose_sharding(self.context, AutoConfig.from_pretrained(self._base_dir), step)

    def refuse_what_cannot_be(self) -> None:
        """Stop for settings that this base model, these files or this machine do not bear, before any work.

        Raises:
            TrainingError: the reason.
        """
        from transformers import AutoConfig

        refuse_encoder(AutoConfig.from_pretrained(self._base_dir))
        refuse_missing_text(
            self._general, replay_share=self.settings.replay_share, max_increase=self.settings.max_general_increase
        )
        if self.settings.trainable == "qlora":
            refuse_qlora_where_impossible("training.m1.trainable")

    def train_extended(self) -> _Made:
        """Train the extended model and save it."""
        held_out = self._held_out(self.context)
        base_tokenizer, tokenizer = _tokenizer(self._base_dir), _tokenizer(self._tokenizer_dir)
        model = self._load_base()
        scores = {"base": held_out.measure("base", model, base_tokenizer)}
        model = self._extend(model, tokenizer)
        if self.new_tokens:
            scores["extended"] = held_out.measure("extended", model, tokenizer)
        else:
            scores["extended"] = held_out.take("extended", of="base")
        adapted = adapt(
            model,
            tokenizer,
            self._texts,
            settings=self.settings,
            context=self.context,
            new_ids=[int(token["id"]) for token in self.new_tokens],
        )
        scores["trained"] = held_out.measure("trained", adapted.model, tokenizer)
        self._save(adapted, tokenizer)
        base, trained = scores["base"], scores["trained"]
        return _Made(
            scores=scores,
            compared=_compared(adapted, trained),
            metrics=_run_metrics(adapted),
            checks=(
                check_loss(adapted.run),
                check_weights(adapted.model),
                check_held_out(of_corpus(scores["extended"]), of_corpus(trained)),
                check_vocabulary(adapted.model, tokenizer),
                check_general(of_general(base), of_general(trained), self.settings.max_general_increase),
            ),
            notes={"micro_batch": adapted.run.micro_batch, "kernels": adapted.run.kernels},
        )

    def train_unextended(self, tokens: int) -> Compared:
        """Train the base model with its own tokenizer on as many tokens (at least), which is as much computing.

        Its checkpoints lie in `scratch/unextended`; once measured, it is not trained again after a kill.
        """
        scratch = self.context.scratch / "unextended"
        scratch.mkdir(exist_ok=True)
        found = Compared.read(scratch / "compared.json")
        if found is not None:
            return found
        context = replace(self.context, scratch=scratch, report_line=_as_unextended(self.context.report_line))
        held_out = self._held_out(context)
        tokenizer = _tokenizer(self._base_dir)
        settings = settings_for_tokens(self.settings, tokens, self._sequence_length)
        context.log(f"m1_checkpoint: training on {tokens} tokens, to compare the tokenizers")
        adapted = adapt(self._load_base(), tokenizer, self._texts, settings=settings, context=context)
        compared = _compared(adapted, held_out.measure("trained", adapted.model, tokenizer))
        compared.write(scratch / "compared.json")
        return compared

    @property
    def _sequence_length(self) -> int:
        return self.settings.sequence_length or self.context.settings.model.max_length

    def _load_base(self) -> "PreTrainedModel":
        """The base model where it computes: whole in every process, or in parts."""
        if not self.sharded:
            return self._load_on_device()
        gc.collect()  # a model in parts that is done with refers to itself, and would be there beside this one
        model: PreTrainedModel = shard(load_for_sharding(self._base_dir, self._master_dtype), self.context)
        return model

    @property
    def _master_dtype(self) -> "torch.dtype":
        """Of the weights that are trained, on every device; on cuda the Trainer computes in bfloat16 over them."""
        import torch

        return torch.float32

    def _load_on_device(self) -> "PreTrainedModel":
        from transformers import AutoModelForCausalLM

        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(self._base_dir, dtype=self._master_dtype)
        return model.to(self.device)

    def _extend(self, model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase") -> "PreTrainedModel":
        """The model with rows for the new tokens; `model` itself unless it is in parts.

        Rows are added to whole matrices. Fitting them computes with the whole model, in each process alike.
        """
        if not self.new_tokens:
            return model
        new_rows = self.settings.new_rows
        if self.sharded and new_rows.method == "fitted":
            model = self._load_on_device()
        elif self.sharded:
            model = load_for_sharding(self._base_dir, self._master_dtype)
        extend_embeddings(
            model,
            self.new_tokens,
            multiple_of=new_rows.pad_to_multiple,
            own_tokenizer=_tokenizer(self._base_dir),
        )
        texts = map_split(self._corpus_dir, "train", cache_dir=self.context.scratch / "mapped")["content"]
        fitted = fit_new_rows(model, self.new_tokens, texts, tokenizer, new_rows, self.context)
        if fitted is not None:
            self.num_fitting_tokens = fitted.base_tokens_read
        extended: PreTrainedModel = shard(model, self.context) if self.sharded else model
        return extended

    def _save(self, adapted: Adaptation, tokenizer: "PreTrainedTokenizerBase") -> None:
        dtype = choose_dtype(self.context.settings.model.precision, self.device)
        model = gather(adapted.model, dtype) if self.sharded else adapted.model.to(dtype)
        if model is None:  # another process than the first, which alone has the whole of it and publishes
            return
        model.save_pretrained(self.context.out)
        tokenizer.save_pretrained(self.context.out)
        replace(adapted.run, curve=adapted.curve()).write_curve(self.context.out)
        carry_terms(self._base_dir, self.context.out, "the vocabulary was extended and the model trained further.")

    def _held_out(self, context: StageContext) -> HeldOut:
        texts = dict(self._held_out_texts)
        general = texts_by_language(
            ((document.language, document.text) for document in self._general.held_out),
            self.settings.evaluation_documents,
            self.settings.evaluation_characters,
        )
        texts |= {f"{GENERAL_PREFIX}{language}": found for language, found in general.items()}
        return HeldOut(
            texts, sequence_length=self._sequence_length, batch_size=self.settings.batch_size, context=context
        )

    @cached_property
    def _held_out_texts(self) -> dict[str, list[str]]:
        return texts_by_language(
            held_out_documents(self._corpus_dir),
            self.settings.evaluation_documents,
            self.settings.evaluation_characters,
        )

    @cached_property
    def _texts(self) -> Texts:
        train_file = self._corpus_dir / "train.parquet"
        urls = _column(train_file, "url")
        return Texts(
            corpus=lambda: parquet_texts(train_file),
            name_of=lambda number: str(urls[number]),
            general=self._general,
            held_out=[text for texts in self._held_out_texts.values() for text in texts],
        )


def held_out_documents(corpus_dir: Path) -> "Sequence[tuple[str, str]] | zip[tuple[str, str]]":
    """(language, text) of the valid split, one row group in memory at a time."""
    valid_file = corpus_dir / "valid.parquet"
    return zip(parquet_texts(valid_file, "language"), parquet_texts(valid_file), strict=True)


def _tokenizer(directory: Path) -> "PreTrainedTokenizerBase":
    from transformers import AutoTokenizer

    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(directory)
    return tokenizer


def _column(file: Path, name: str) -> Any:
    """One column, as Arrow holds it: some bytes more than its text."""
    import pyarrow.parquet as pq

    return pq.read_table(file, columns=[name])[name].combine_chunks()


def _as_unextended(report_line: Any) -> Any:
    return lambda line: report_line(line.replace("m1_checkpoint:", "m1_checkpoint, unextended:", 1))


def _compared(adapted: Adaptation, scores: Mapping[str, float]) -> Compared:
    return Compared(of_corpus(scores), adapted.run.tokens_seen, adapted.text_bytes)


def _run_metrics(adapted: Adaptation) -> dict[str, float]:
    run, stream = adapted.run, adapted.read
    metrics: dict[str, float] = {
        "train_loss": last_quarter(run.losses),
        "num_steps": run.num_steps,
        "tokens_seen": run.tokens_seen,
        # What the tokens stand for on average: a packed sequence does not know its own bytes.
        "bytes_seen": adapted.text_bytes,
        "num_sequences": len(stream),
        "num_replayed_sequences": stream.num_replayed,
        "replay_passes": stream.replay_passes,
        "num_tokens_dropped": stream.corpus.num_tokens_dropped,
        "tokens_per_second": run.tokens_per_second,
        "num_parameters": adapted.model.num_parameters(),
        "num_trainable_parameters": adapted.num_trainable,
    }
    if run.held_out_loss_before is not None and run.held_out_loss_after is not None and run.best_step is not None:
        metrics |= {
            "held_out_loss_before": run.held_out_loss_before,
            "held_out_loss_after": run.held_out_loss_after,
            "best_step": run.best_step,
        }
    return metrics


def _score_metrics(scores: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """`bits_per_byte_<language or general_language>_<state of the model>`."""
    return {f"bits_per_byte_{group}_{name}": value for name, row in scores.items() for group, value in row.items()}


def _outside_files(settings: Settings, _store: ArtifactStore, _partition: str | None) -> list[Path]:
    return find_general_files(settings.data.general_paths)


STAGE = Stage(
    name="m1_checkpoint",
    make=make_m1_checkpoint,
    code_version="2",
    inputs=("base_model", "domain_tokenizer", "corpus_snapshot"),
    settings=("training.m1", "data.general_paths", "model.max_length", "model.precision", "seed"),
    checks=CHECKS,
    outside_files=_outside_files,
    own_process=True,
    distributed=True,
)
