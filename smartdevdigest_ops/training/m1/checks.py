"""The gates of m1_checkpoint."""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from smartdevdigest_ops.stage import Check, CheckResult
from smartdevdigest_ops.training.trainer.run import TrainingRun
from smartdevdigest_ops.training.trainer.sharding import is_finite

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from smartdevdigest_ops.training.m1.adaptation import Compared

# Below that, which languages a quarter's few batches hold decides its mean: a Korean token costs twice an English one.
MIN_STEPS_TO_JUDGE = 24

CHECKS = (
    Check("loss_is_finite_and_falls", "Every train loss is finite; the last quarter's mean is below the first's."),
    Check("weights_are_finite", "No weight is NaN or infinite."),
    Check(
        "held_out_improves",
        "Held-out bits per byte after training are below those right after the extension.",
        blocking=False,
    ),
    Check("vocabulary_matches_tokenizer", "Every token of the tokenizer has an embedding row."),
    Check(
        "general_text_kept",
        "Bits per byte of general text rose by training.m1.max_general_increase at most over the base model's.",
    ),
    Check(
        "tokenizer_earns_its_keep",
        "After as many tokens, the extended model has no more bits per byte than the base with its own tokenizer.",
        blocking=False,
    ),
)


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
    broken = [name for name, weight in model.state_dict().items() if not is_finite(weight)]
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


def check_general(base: Mapping[str, float], trained: Mapping[str, float], max_increase: float | None) -> CheckResult:
    """No language's bits per byte of general text rose by more than `max_increase`, a part of the base model's."""
    name = "general_text_kept"
    increases = {language: trained[language] / base[language] - 1 for language in base}
    changes = ", ".join(
        f"{language} {base[language]:.3f} -> {trained[language]:.3f} ({increases[language]:+.1%})" for language in base
    )
    message = f"bits per byte of general text, base -> trained: {changes or 'no general text is held out'}"
    if max_increase is None:
        return CheckResult(name, True, f"{message}; not gated (training.m1.max_general_increase is null)")
    if not increases:
        return CheckResult(name, False, f"{message}: what was forgotten is unknown")
    passed = all(increase <= max_increase for increase in increases.values())
    message = f"{message}; at most {max_increase:+.0%} may be"
    if not passed:
        message += (
            ". Raise training.m1.replay_share, lower the learning rates, or raise max_general_increase where "
            "forgetting is meant"
        )
    return CheckResult(name, passed, message, {"increase": max(increases.values())})


def check_tokenizer(
    num_new_tokens: int, extended: "Compared | None" = None, unextended: "Compared | None" = None
) -> CheckResult:
    """The extended tokenizer is no worse than the base's own, by the mean over the corpus's languages."""
    name = "tokenizer_earns_its_keep"
    if not num_new_tokens:
        return CheckResult(name, True, "the tokenizer has no new token: there is nothing to earn back")
    if extended is None or unextended is None:
        return CheckResult(
            name,
            False,
            "not compared: whether the new tokens pay is unknown. training.m1.compare_unextended=true trains the base "
            "model with its own tokenizer beside it, for as long again",
        )
    if not extended.bits_per_byte:
        return CheckResult(name, False, "the valid split is empty: there is nothing to compare on")
    by_language = ", ".join(
        f"{language} {value:.3f} against {other:.3f} ({_better(value, other)})"
        for language, value in extended.bits_per_byte.items()
        for other in [unextended.bits_per_byte[language]]
    )
    means = [statistics.fmean(each.bits_per_byte.values()) for each in (extended, unextended)]
    verdict = "the extended tokenizer is kept by it" if means[0] <= means[1] else "the base's own tokenizer is better"
    message = (
        f"bits per byte, extended against unextended, after {extended.tokens_seen} and {unextended.tokens_seen} tokens "
        f"({extended.text_bytes / 1e6:.2f} and {unextended.text_bytes / 1e6:.2f} MB of text): {by_language}; "
        f"mean {means[0]:.3f} against {means[1]:.3f}: {verdict} for this corpus and budget"
    )
    return CheckResult(name, means[0] <= means[1], message, {"mean_difference": means[0] - means[1]})


def _better(extended: float, unextended: float) -> str:
    if extended == unextended:
        return "equal"
    return "extended better" if extended < unextended else "unextended better"
