"""What only a CUDA device can show of a quantized model: the kernels and servers that read it packed."""

from pathlib import Path

import pytest

from smartdevdigest_ops.quantization.load import load_for_inference


def has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()


pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not has_cuda(), reason="no CUDA device")]


def test_the_packed_model_computes_on_the_device_what_the_unpacked_one_computes(tiny_quantized: Path) -> None:
    import torch

    pytest.importorskip("optimum")
    packed = load_for_inference(tiny_quantized, device="cuda", dtype=torch.float16)
    dense = load_for_inference(tiny_quantized, device="cpu", dtype=torch.float32)
    assert any(hasattr(module, "qweight") for module in packed.modules())
    ids_1T = torch.arange(100, 140).unsqueeze(0)
    with torch.inference_mode():
        found = packed(input_ids=ids_1T.to("cuda")).logits.float().cpu()
        expected = dense(input_ids=ids_1T).logits
    assert (found - expected).abs().max() <= 2e-2 * expected.abs().max()


def test_vllm_loads_the_packed_model_and_answers_greedily_as_the_unpacked_one(tiny_quantized: Path) -> None:
    import torch

    vllm = pytest.importorskip("vllm")
    prompt = list(range(100, 130))
    dense = load_for_inference(tiny_quantized, device="cpu", dtype=torch.float32)
    with torch.inference_mode():
        first = int(dense(input_ids=torch.tensor([prompt])).logits[0, -1].argmax())
    engine = vllm.LLM(str(tiny_quantized), dtype="float16", max_model_len=256, gpu_memory_utilization=0.3)
    answers = engine.generate(
        [vllm.TokensPrompt(prompt_token_ids=prompt)], vllm.SamplingParams(temperature=0.0, max_tokens=1)
    )
    assert answers[0].outputs[0].token_ids[0] == first
