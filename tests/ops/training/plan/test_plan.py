from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from smartdevdigest_ops.settings import Settings, load_settings
from smartdevdigest_ops.training.plan.amounts import corpus_tokens, count_labels, label_cost
from smartdevdigest_ops.training.plan.memory import PlanError
from smartdevdigest_ops.training.plan.plan import (
    GIB,
    Machine,
    alternatives,
    choose_sharding,
    fitting,
    load_shape,
    operations_per_token,
    plan_lines,
    seconds_of,
    share_of_step,
    step_memory,
    step_shapes,
    work_of,
)

QWEN = Path(__file__).with_name("qwen2.5-32b.config.json")


@pytest.fixture
def gpu_settings(tmp_path: Path) -> Settings:
    return load_settings("gpu-30b", overrides={"store": {"root": str(tmp_path / "store")}})


@pytest.fixture(scope="module")
def qwen():
    return load_shape(load_settings("gpu-30b"), QWEN)


def test_a_32b_model_is_counted_from_its_configuration(qwen):
    assert qwen.num_parameters == 32_763_876_352
    assert not qwen.is_tied


@pytest.mark.parametrize(
    ("num_gpus", "gib", "fits"),
    [(1, 80, "qlora, all three"), (2, 24, None), (8, 80, "gradient checkpointing"), (1, 8, None)],
)
def test_what_fits_on_which_gpus(gpu_settings: Settings, qwen, num_gpus: int, gib: float, fits: str | None):
    machine = Machine(num_gpus=num_gpus, gpu_memory_gib=gib)
    step = step_shapes(gpu_settings, machine)["M1"]
    step = replace(step, sharding=choose_sharding(gpu_settings, machine, qwen, step))
    found = fitting(qwen, step, machine)
    assert (found[0] if found else None) == fits
    for name, way in alternatives(step):
        together = sum(step_memory(qwen, way)[1].values()) / GIB + machine.reserve_gib
        if name == fits:
            assert together <= gib
            break
        assert together > gib


def test_the_optimizer_step_is_the_same_on_any_number_of_gpus(gpu_settings: Settings):
    m1 = gpu_settings.training.m1
    assert (m1.batch_size, m1.gradient_accumulation) == (2, 8)
    assert [share_of_step(m1, num_gpus) for num_gpus in (1, 2, 8)] == [(2, 8), (2, 4), (2, 1)]
    assert [share_of_step(gpu_settings.training.m2, num_gpus)[0] for num_gpus in (1, 2, 8)] == [2, 2, 2]
    assert share_of_step(m1.model_copy(update={"gradient_accumulation": 1}), 2) == (1, 1)
    with pytest.raises(PlanError, match=r"M1: gradient_accumulation=8.*3 GPUs"):
        share_of_step(m1, 3)


def test_m2s_batches_of_like_length_are_shared_only_where_they_are_packed(gpu_settings: Settings):
    m2 = gpu_settings.training.m2.model_copy(update={"batch_size": 2, "gradient_accumulation": 1, "packing": True})
    assert share_of_step(m2, 2) == (1, 1)
    with pytest.raises(PlanError, match="M2: gradient_accumulation=1"):
        share_of_step(m2.model_copy(update={"packing": False}), 2)


def test_steps_and_tokens_of_a_run_are_those_of_its_epochs_and_its_budget(gpu_settings: Settings):
    m1 = gpu_settings.training.m1  # 16 sequences a step, 3 epochs
    work = work_of(m1, num_tokens=2048 * 100, num_sequences=100)
    assert (work.num_steps, work.num_tokens) == (19, 3 * 2048 * 100)  # 300 / 16, rounded up
    capped = work_of(m1.model_copy(update={"max_steps": 10, "epochs": 3.2}), 2048 * 100, 100)
    assert (capped.num_steps, capped.num_tokens) == (10, 2048 * 160)


def test_hours_are_tokens_over_the_throughput_or_operations_over_the_stated_peak(gpu_settings: Settings, qwen):
    machine = Machine(throughput=500.0)
    step = step_shapes(gpu_settings, machine)["M1"]
    work = work_of(gpu_settings.training.m1, 10**6, 488)
    assert seconds_of(work, qwen, step, machine) == work.num_tokens / 500
    assert seconds_of(work, qwen, step, Machine()) is None
    stated = Machine(num_gpus=4, peak_tflops=989, mfu=0.4)
    # 6 operations for each of 31.98 B weights that multiply, and 12 x 64 x 5120 x 2048 for the attention.
    per_token = operations_per_token(qwen, step)
    assert per_token == pytest.approx(6 * 31.984e9 + 8.053e9, rel=1e-3)
    assert seconds_of(work, qwen, step, stated) == pytest.approx(work.num_tokens * per_token / (4 * 0.4 * 989e12))
    recomputed = operations_per_token(qwen, replace(step, recomputes=True))
    assert recomputed == pytest.approx(per_token * 4 / 3)


def test_tokens_come_from_the_corpus_as_its_tokenizer_cuts_it(training_settings: Callable[..., Settings]):
    import pyarrow.parquet as pq
    from transformers import AutoTokenizer

    from smartdevdigest_ops.artifacts import ArtifactStore
    from smartdevdigest_ops.training.bits_per_byte import encode_documents

    settings = training_settings()
    store = ArtifactStore(settings.store_dir)
    texts = pq.read_table(store.current("corpus_snapshot").path / "train.parquet")["content"].to_pylist()
    tokenizer = AutoTokenizer.from_pretrained(store.current("domain_tokenizer").path)
    expected = sum(len(ids) + 1 for ids in encode_documents(tokenizer, texts))
    assert corpus_tokens(settings, None, None)[0] == expected
    assert corpus_tokens(settings, None, 2 * len(texts))[0] == pytest.approx(2 * expected, abs=1)
    assert corpus_tokens(settings, 123, None) == (123, "as given")


def test_labels_to_buy_are_bounded_by_the_settings_and_priced_as_stated(gpu_settings: Settings):
    assert count_labels(gpu_settings, None) == (100, 100)
    assert count_labels(gpu_settings, 30) == (30, 30)
    assert count_labels(load_settings("sample"), None)[1] == 0
    # 100 documents of 12,000 tokens in and 768 out.
    assert label_cost(gpu_settings, 100, (1.0, 10.0)).endswith("at most 1.97 in the price's currency.")
    assert "--label-price" in label_cost(gpu_settings, 100, None)
    assert label_cost(gpu_settings, 0, None) == "labels: none to buy."


def test_the_plan_says_what_was_not_given(gpu_settings: Settings):
    text = "\n".join(plan_lines(gpu_settings, Machine(), config_file=QWEN))
    assert "32.76 B parameters" in text
    assert "give --tokens N" in text
    assert "nothing is said about what fits" in text


def test_the_plan_of_a_made_corpus_needs_nothing_but_the_store(training_settings: Callable[..., Settings]):
    settings = training_settings()
    config = Path(__file__).parents[0] / QWEN.name
    text = "\n".join(plan_lines(settings, Machine(throughput=1000), config_file=config))
    assert "4 optimizer steps" in text
    assert "hours as set, at 1,000 tokens/s" in text


@pytest.mark.parametrize(
    ("profile", "config", "said"),
    [
        ("gpu-30b", None, r"not in the local Hub cache.*--config FILE"),
        ("ci", None, r"tiny-random-llama.*run --select base_model"),
        ("gpu-30b", Path("nowhere.json"), r"nowhere\.json is not a file"),
        ("gpu-30b", Path(__file__), r"its configuration cannot be read"),
    ],
)
def test_a_model_whose_shape_is_not_to_be_had_is_named(profile: str, config: Path | None, said: str, tmp_path: Path):
    settings = load_settings(profile, overrides={"store": {"root": str(tmp_path)}})
    with pytest.raises(PlanError, match=said):
        load_shape(settings, config)
