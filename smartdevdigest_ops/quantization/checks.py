"""The gates of `quantized_model`: each looks at one way in which a merged or quantized model comes out broken."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from smartdevdigest_ops.quantization.compare import ModelReading, turned_to_garbage
from smartdevdigest_ops.quantization.layout import layout_problems
from smartdevdigest_ops.quantization.load import PACKED_SUFFIXES, read_config
from smartdevdigest_ops.quantization.merge import MergeReport
from smartdevdigest_ops.quantization.quiet import output_to_log
from smartdevdigest_ops.stage import Check, CheckResult

if TYPE_CHECKING:
    from transformers import PreTrainedModel

CHECKS = (
    Check("merge_is_exact", "The merged model's logits equal those of M1 with the adapter applied, up to rounding."),
    Check("every_tensor_present", "Every tensor of the merged model is in the artifact, packed or as it was."),
    Check("layout_is_loadable", "Settings, shapes and types are those that the loaders of vLLM and SGLang read."),
    Check("no_nan", "No logit of the quantized model is NaN or infinite."),
    Check(
        "bits_per_byte_increase_bounded",
        "Held-out bits per byte rise by at most quantization.max_bits_per_byte_increase in each language.",
    ),
    Check(
        "loses_less_than_rounding",
        "Held-out bits per byte rise by less than under rounding every weight to its nearest code.",
        blocking=False,
    ),
    Check(
        "generation_is_not_garbage",
        "Greedy answers do not turn into one token repeated where the unquantized model's are sound.",
    ),
    Check(
        "reloads",
        "transformers (gptqmodel, where quantization.overrides give layers formats of their own) loads the artifact by "
        "itself and computes the same logits.",
    ),
)

# Relative to the largest logit: the kernels round every weight to 16 bits first.
_RELOAD_TOLERANCE = 2e-2


def check_merge(report: MergeReport) -> CheckResult:
    """`merge_is_exact`."""
    return CheckResult(
        "merge_is_exact",
        report.exact,
        f"largest logit difference {report.max_logit_difference:.2e} on probe texts; at most {report.tolerance:.2e} "
        f"is rounding (largest logit {report.max_logit:.3g}, {report.num_merged_layers} layers merged).",
        report.as_json(),
    )


@dataclass(frozen=True)
class TensorSizes:
    """Bytes of a model directory's tensors, by what they are."""

    missing: list[str]
    """Tensors of the merged model that are not there."""
    unexpected: list[str]
    packed_bytes: int
    packed_weights: int
    """Weights that the packed bytes stand for."""
    embedding_bytes: int
    total_bytes: int

    @property
    def bits_per_packed_weight(self) -> float:
        """Bits per weight of the quantized layers, scales and zero points included; 0 when nothing is packed."""
        return 8 * self.packed_bytes / self.packed_weights if self.packed_weights else 0.0


def measure_tensors(merged_dir: Path, model_dir: Path) -> TensorSizes:
    """Compare the tensors of a quantized directory with those of the merged model it was made from."""
    merged, stored = _tensor_shapes(merged_dir), _tensor_shapes(model_dir)
    expected: set[str] = set()
    packed_bytes = packed_weights = 0
    for name, (shape, _) in merged.items():
        layer, _, kind = name.rpartition(".")
        parts = [f"{layer}.{suffix}" for suffix in PACKED_SUFFIXES]
        # A layer counts as packed as soon as one of its parts is there: the others are then missed by name.
        if kind == "weight" and any(part in stored for part in parts):
            expected.update(parts)
            packed_weights += math.prod(shape)
            packed_bytes += sum(stored[part][1] for part in parts if part in stored)
        elif name in stored and stored[name][0] != shape:
            expected.add(f"{name} {shape}")
        else:
            expected.add(name)
    embedding = [size for name, (_, size) in stored.items() if "embed_tokens" in name or name.startswith("lm_head")]
    return TensorSizes(
        missing=sorted(expected - set(stored)),
        unexpected=sorted(set(stored) - expected),
        packed_bytes=packed_bytes,
        packed_weights=packed_weights,
        embedding_bytes=sum(embedding),
        total_bytes=sum(size for _, size in stored.values()),
    )


def check_tensors(sizes: TensorSizes, *, quantized: bool) -> CheckResult:
    """`every_tensor_present`."""
    passed = not sizes.missing and not sizes.unexpected and (sizes.packed_weights > 0) == quantized
    message = (
        f"{len(sizes.missing)} tensors missing, {len(sizes.unexpected)} unexpected; "
        f"{sizes.packed_weights} weights are packed at {sizes.bits_per_packed_weight:.2f} bits."
    )
    if not passed:
        message += f" For example: {', '.join((sizes.missing + sizes.unexpected)[:3]) or 'no layer is packed'}."
    return CheckResult("every_tensor_present", passed, message, {"missing": sizes.missing[:50]})


def check_layout(model_dir: Path, *, quantized: bool) -> CheckResult:
    """`layout_is_loadable`."""
    problems = layout_problems(model_dir) if quantized else []
    found = f"{len(problems)} problems" + (f": {'; '.join(problems[:3])}." if problems else ".")
    return CheckResult("layout_is_loadable", not problems, found if quantized else "not quantized, nothing is packed.")


def check_no_nan(after: ModelReading) -> CheckResult:
    """`no_nan`."""
    broken = [language for language, score in after.bits_per_byte.items() if not math.isfinite(score)]
    return CheckResult(
        "no_nan",
        after.num_nonfinite_logits == 0 and not broken,
        f"{after.num_nonfinite_logits} logits on {len(after.answers)} prompts are NaN or infinite; none may be."
        + (f" Bits per byte are not finite in {', '.join(broken)}." if broken else ""),
    )


def check_bits_per_byte(before: ModelReading, after: ModelReading, bound: float) -> CheckResult:
    """`bits_per_byte_increase_bounded`."""
    name = "bits_per_byte_increase_bounded"
    rises = {language: after.bits_per_byte[language] - score for language, score in before.bits_per_byte.items()}
    if not rises:
        return CheckResult(name, False, "the valid split holds no document: what quantizing cost is not known.")
    parts = [
        f"{language} {before.bits_per_byte[language]:.3f} -> {after.bits_per_byte[language]:.3f} ({rise:+.3f})"
        for language, rise in rises.items()
    ]
    return CheckResult(
        name,
        all(rise <= bound for rise in rises.values()),  # NaN fails
        f"bits per byte {', '.join(parts)}; at most {bound:+g} is accepted.",
        {f"increase_{language}": rise for language, rise in rises.items()},
    )


def check_rounding(
    before: Mapping[str, float], after: Mapping[str, float], rounded: Mapping[str, float] | None
) -> CheckResult:
    """`loses_less_than_rounding`: bits per byte by language of the unquantized, quantized and rounded model.

    `rounded` is None where the model is shipped unquantized.
    """
    if rounded is None:
        return CheckResult("loses_less_than_rounding", True, "the model is shipped unquantized: nothing was rounded.")
    losses = {language: (after[language] - score, rounded[language] - score) for language, score in before.items()}
    parts = [
        f"{language} {ours:+.3f} against {theirs:+.3f}" + (f" ({ours / theirs:.0%})" if theirs > 0 else "")
        for language, (ours, theirs) in losses.items()
    ]
    return CheckResult(
        "loses_less_than_rounding",
        bool(losses) and all(ours < theirs for ours, theirs in losses.values()),
        f"bits per byte rise, GPTQ against rounding to nearest: {', '.join(parts) or 'nothing was compared'}. Where it "
        "is no less, calibrate on more documents.",
        {f"rounding_increase_{language}": theirs for language, (_, theirs) in losses.items()},
    )


def check_generation(before: ModelReading, after: ModelReading, examples: Sequence[str]) -> CheckResult:
    """`generation_is_not_garbage`."""
    num_garbage, num_sound = turned_to_garbage(before.answers, after.answers)
    return CheckResult(
        "generation_is_not_garbage",
        2 * num_garbage < num_sound or num_garbage == 0,
        f"{num_garbage} of {num_sound} answers that were sound before quantizing are one token repeated after; "
        "fewer than half may be.",
        {"answers": list(examples)},
    )


def check_reload(model_dir: Path, served: "PreTrainedModel", prompt: list[int], log_file: Path) -> CheckResult:
    """`reloads`: against `served`, the model that everything else was measured on."""
    import torch

    ids_1T = torch.tensor([prompt], device=served.device)
    with output_to_log(log_file.resolve()), torch.inference_mode(), torch.compiler.set_stance("force_eager"):
        model, loader = _load_by_itself(model_dir.resolve(), served)
        found = model(input_ids=ids_1T).logits.float()
        expected = served(input_ids=ids_1T).logits.float()
    difference, largest = (found - expected).abs().max().item(), expected.abs().max().item()
    return CheckResult(
        "reloads",
        difference <= _RELOAD_TOLERANCE * largest,
        f"logits of the model that {loader} loaded differ by at most {difference:.2e}; "
        f"{_RELOAD_TOLERANCE * largest:.2e} is rounding (largest logit {largest:.3g}).",
        {"max_logit_difference": difference},
    )


def _load_by_itself(model_dir: Path, served: "PreTrainedModel") -> tuple["PreTrainedModel", str]:
    """The model as others load it, in the type and on the device of `served`, and by which package."""
    import torch
    from transformers import AutoModelForCausalLM, GPTQConfig

    quantization = read_config(model_dir).get("quantization_config") or {}
    if quantization.get("dynamic"):
        from gptqmodel import BACKEND, GPTQModel

        # Its kernels compute in 16 bits alone.
        dtype = torch.float16 if served.dtype == torch.float32 else served.dtype
        loaded = GPTQModel.load(str(model_dir), device=str(served.device), dtype=dtype, backend=BACKEND.GPTQ_TORCH)
        return loaded.model.eval(), "gptqmodel"
    options = {}
    if quantization and served.device.type == "cpu":
        # The plain kernel: the fast one for CPUs is compiled for a minute at first use, to be used once here.
        options["quantization_config"] = GPTQConfig(bits=quantization["bits"], backend="torch")
    model = AutoModelForCausalLM.from_pretrained(
        model_dir, dtype=served.dtype, device_map=str(served.device), local_files_only=True, **options
    )
    return model.eval(), "transformers"


def _tensor_shapes(model_dir: Path) -> dict[str, tuple[tuple[int, ...], int]]:
    """Shape and bytes of every tensor, from the files' headers alone."""
    from safetensors import safe_open

    shapes: dict[str, tuple[tuple[int, ...], int]] = {}
    for file in sorted(model_dir.glob("*.safetensors")):
        with safe_open(file, framework="pt") as stream:
            for name in stream.keys():  # noqa: SIM118 - safe_open is no mapping
                part = stream.get_slice(name)
                shape = tuple(part.get_shape())
                shapes[name] = (shape, math.prod(shape) * _DTYPE_BYTES[part.get_dtype()])
    return shapes


_DTYPE_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
