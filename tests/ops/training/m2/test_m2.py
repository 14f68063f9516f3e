"""The stage m2_adapter and its examples."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from smartdevdigest_ops.artifacts import ArtifactStore, Making
from smartdevdigest_ops.contracts import CrawlRecord, Label
from smartdevdigest_ops.digesting.prompt import answer_text
from smartdevdigest_ops.settings import DigestingSettings, Settings, load_settings
from smartdevdigest_ops.training.errors import TrainingError
from smartdevdigest_ops.training.m2.answers import (
    IGNORED,
    AnswerBatches,
    Example,
    PackedAnswers,
    build_examples,
    cap_answer,
)
from smartdevdigest_ops.training.m2.stage import (
    check_adapter_moved,
    check_loss_mask,
    check_valid_loss,
    check_vocabulary_untouched,
)
from smartdevdigest_ops.training.trainer.run import TrainingRun

TRAINING = {
    "training": {"m2": {"max_steps": 10, "warmup_steps": 1, "learning_rate": 2e-2, "epochs": 9, "batch_size": 2}}
}
EXAMPLES = [Example([1, 2, 3], [4, 5]), Example([1], [6]), Example([1, 2], [7, 8, 9])]


@pytest.fixture(scope="module")
def tokenizer(tiny_base_model: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_base_model)


@pytest.fixture
def row(sample_documents: list[CrawlRecord], sample_labels: dict[str, Label]) -> dict[str, Any]:
    record = sample_documents[0]
    return {
        "title": record.title,
        "content": record.content,
        "language": record.language,
        "label": sample_labels[record.url].model_dump_json(),
    }


def run_with(before: float | None, after: float | None, num_steps: int) -> TrainingRun:
    return TrainingRun([], num_steps, 0, 1.0, before, after)


def test_m2_learns_the_answers_and_saves_an_adapter_in_peft_layout(
    training_settings: Callable[..., Settings], run: Callable[..., Making], tmp_path: Path
) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    settings = training_settings(TRAINING)
    m1 = run("m1_checkpoint", settings)
    making = run("m2_adapter", settings)

    assert all(check["passed"] for check in making.checks), making.checks
    assert making.metrics["valid_loss_after"] < making.metrics["valid_loss_before"]
    assert making.metrics["num_train_examples"] + making.metrics["num_left_out"] >= 15
    assert 0 < making.metrics["num_train_documents_cut"] <= making.metrics["num_train_examples"]
    assert 0 < making.metrics["train_covered_share"] < 1
    assert 0 < making.metrics["valid_covered_share"] <= 1
    store = ArtifactStore(settings.store_dir)
    directory = store.open("m2_adapter", making.version).path
    assert {path.name for path in directory.iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
        "training_curve.jsonl",
        "manifest.json",
    }
    config = json.loads((directory / "adapter_config.json").read_text(encoding="utf-8"))
    assert config["base_model_name_or_path"] == "m1_checkpoint"
    assert config["target_modules"] == sorted(config["target_modules"])
    assert str(tmp_path.parent) not in json.dumps(config)
    base = AutoModelForCausalLM.from_pretrained(store.open("m1_checkpoint", m1.version).path)
    adapted = PeftModel.from_pretrained(base, directory)
    adapter = sum(p.numel() for name, p in adapted.named_parameters() if "lora_" in name)
    assert adapter == making.metrics["num_trainable_parameters"]


def test_two_runs_of_m2_give_the_same_bytes(
    training_settings: Callable[..., Settings], run: Callable[..., Making], tmp_path: Path
) -> None:
    run("m1_checkpoint", training_settings(root="first"))
    shutil.copytree(tmp_path / "first", tmp_path / "second")
    versions = [run("m2_adapter", training_settings(TRAINING, root)).version for root in ("first", "second")]
    assert versions[0] == versions[1]


def test_an_example_is_the_prompt_then_the_whole_answer_then_the_end_of_turn(
    tokenizer: Any, row: dict[str, Any]
) -> None:
    built = build_examples(tokenizer, [row], DigestingSettings(), sequence_length=1024)

    (example,) = built.examples
    assert len(example) <= 1024
    assert example.answer_ids[-1] == tokenizer.eos_token_id
    answer = tokenizer.decode(example.answer_ids[:-1])
    assert answer == answer_text(Label.model_validate_json(row["label"]))
    assert tokenizer.decode(example.prompt_ids).endswith("<|im_start|>assistant\n")


def test_an_answer_that_leaves_too_little_of_the_document_is_left_out_and_counted(
    tokenizer: Any, row: dict[str, Any]
) -> None:
    built = build_examples(tokenizer, [row, row], DigestingSettings(), sequence_length=256)
    assert (built.examples, built.num_left_out) == ([], 2)


def test_what_was_cut_off_a_long_document_is_recorded(tokenizer: Any, row: dict[str, Any]) -> None:
    short = row | {"content": "A pod runs."}
    long = row | {"content": "# Pods\n\n" + "A pod runs on a node that has room for it.\n\n" * 200}
    built = build_examples(tokenizer, [short, long], DigestingSettings(), sequence_length=1024)
    whole, cut = built.examples
    assert whole.covered_share == 1.0
    read = tokenizer.decode(cut.prompt_ids).count("A pod runs on a node")
    assert cut.covered_share == pytest.approx(read / 200, abs=0.01)
    assert built.num_cut == 1
    assert built.mean_covered_share == pytest.approx((1 + cut.covered_share) / 2)
    assert build_examples(tokenizer, [], DigestingSettings(), sequence_length=1024).mean_covered_share == 1.0


def test_lists_end_where_the_grammar_would_end_them(row: dict[str, Any]) -> None:
    label = Label.model_validate_json(row["label"])
    assert len(label.keywords) > 2
    capped = cap_answer(label, DigestingSettings(max_keywords=2, max_terms=1, max_prerequisites=0))
    assert (len(capped.keywords), len(capped.technical_terms), capped.prerequisites) == (2, 1, [])
    assert cap_answer(label, DigestingSettings()) == label


def test_prose_ends_with_its_last_whole_sentence_below_the_cap_of_the_grammar(row: dict[str, Any]) -> None:
    from smartdevdigest_ops.digesting.answer import whole_prose

    label = Label.model_validate_json(row["label"])
    term = label.technical_terms[0]

    def capped(text: str, most: int = 40) -> tuple[str, str]:
        given = label.model_copy(
            update={"summary": text, "technical_terms": [term.model_copy(update={"explanation": text})]}
        )
        settings = DigestingSettings(max_summary_characters=most, max_explanation_characters=most)
        made = cap_answer(given, settings)
        for prose in (made.summary, made.technical_terms[0].explanation):
            assert whole_prose(prose, most, cut=False) == prose  # the digester leaves it as it is
        assert made.technical_terms[0].term == term.term
        return made.summary, made.technical_terms[0].explanation

    sentence = "A pod runs on a node."
    assert capped(f"{sentence} The node has room.") == (sentence, sentence)
    assert capped(f"{sentence} It runs Python 3.12 there.") == (sentence, sentence)
    assert capped(f"{sentence} It has room there.") == (sentence, sentence)  # 40 characters: as long as the cap
    assert capped(f"{sentence} It has room here.") == (f"{sentence} It has room here.",) * 2
    assert capped("No sentence of this summary has an endless tail") == ("No sentence of this summary has an…",) * 2
    unbroken = "".join(chr(ord("가") + place) for place in range(60))
    assert capped(unbroken) == (unbroken[:38] + "…",) * 2
    korean = "파드는 노드에서 실행된다."
    assert capped(f"{korean} 노드에는 자리가 있어야 하며 스케줄러가 그것을 고른다.") == (korean, korean)


@pytest.mark.parametrize("profile", ["sample", "bilingual"])
def test_no_prose_of_the_samples_labels_is_cut_by_its_profiles(profile: str, sample_labels: dict[str, Label]) -> None:
    digesting = load_settings(profile).digesting
    assert digesting.max_summary_characters < DigestingSettings().max_summary_characters
    for label in sample_labels.values():
        capped = cap_answer(label, digesting)
        assert capped.summary == label.summary
        assert capped.technical_terms == label.technical_terms[: digesting.max_terms]


def test_batches_are_padded_on_the_right_and_only_answers_are_scored() -> None:
    batches = AnswerBatches(EXAMPLES, batch_size=2, pad_id=0)

    assert len(batches) == 2
    assert batches[0]["input_ids"].tolist() == [[1, 6, 0, 0, 0], [1, 2, 3, 4, 5]]
    assert batches[0]["labels"].tolist() == [[-100, 6, -100, -100, -100], [-100, -100, -100, 4, 5]]
    assert batches[1]["input_ids"].tolist() == [[1, 2, 7, 8, 9]]


def test_padding_changes_no_loss(tokenizer: Any, tiny_base_model: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_base_model)
    padded = AnswerBatches(EXAMPLES, batch_size=3, pad_id=0)[0]
    nats = 0.0
    with torch.inference_mode():
        for index in range(3):
            alone = AnswerBatches(EXAMPLES, batch_size=1, pad_id=0)[index]
            nats += model(**alone, use_cache=False).loss.item() * int((alone["labels"] != -100).sum())
        assert model(**padded, use_cache=False).loss.item() == pytest.approx(nats / 6, abs=1e-5)


def test_a_mask_that_scores_more_than_the_answers_fails_the_check() -> None:
    batches = AnswerBatches(EXAMPLES, batch_size=2, pad_id=0)
    labels = [batches[0]["labels"], batches[1]["labels"]]
    assert check_loss_mask(labels, EXAMPLES).passed
    labels[0] = batches[0]["input_ids"]
    assert not check_loss_mask(labels, EXAMPLES).passed


def test_an_adapter_whose_b_is_zero_fails_the_check() -> None:
    import torch

    moved = {"q_proj.lora_A.weight": torch.ones(2, 4), "q_proj.lora_B.weight": torch.ones(4, 2)}
    assert check_adapter_moved(moved).passed
    assert not check_adapter_moved(moved | {"k_proj.lora_B.weight": torch.zeros(4, 2)}).passed
    assert not check_adapter_moved({}).passed


def test_an_adapter_on_the_output_layer_fails_the_check() -> None:
    import torch

    body = {"base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight": torch.ones(2, 4)}
    assert check_vocabulary_untouched(body).passed
    assert not check_vocabulary_untouched(body | {"base_model.model.lm_head.lora_A.weight": torch.ones(2, 4)}).passed


def test_a_held_out_loss_that_rises_fails_the_check_from_eight_steps_on() -> None:
    assert check_valid_loss(run_with(3.0, 2.0, 20)).passed
    assert not check_valid_loss(run_with(2.0, 3.0, 20)).passed
    assert check_valid_loss(run_with(2.0, 3.0, 4)).passed
    assert not check_valid_loss(run_with(2.0, float("nan"), 4)).passed
    assert not check_valid_loss(run_with(None, None, 20)).passed


@pytest.mark.parametrize(("changes", "extra"), [({"rslora": True}, "rslora"), ({"dora": True}, "dora")])
def test_other_adapters_learn_and_merge_into_the_model_that_they_made(
    changes: dict[str, Any], extra: str, training_settings: Callable[..., Settings], run: Callable[..., Making]
) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    settings = training_settings({"training": {"m2": TRAINING["training"]["m2"] | {"lora": changes, "packing": True}}})
    m1 = run("m1_checkpoint", settings)
    making = run("m2_adapter", settings)

    assert all(check["passed"] for check in making.checks), making.checks
    store = ArtifactStore(settings.store_dir)
    directory = store.open("m2_adapter", making.version).path
    assert json.loads((directory / "adapter_config.json").read_text(encoding="utf-8"))[f"use_{extra}"]
    base = AutoModelForCausalLM.from_pretrained(store.open("m1_checkpoint", m1.version).path)
    adapted = PeftModel.from_pretrained(base, directory).eval()
    ids = torch.arange(1, 20)[None]
    with torch.no_grad():
        expected = adapted(ids).logits
        merged = adapted.merge_and_unload()
        torch.testing.assert_close(merged(ids).logits, expected, rtol=1e-4, atol=1e-4)


def test_packed_sequences_hold_every_example_whole_once_and_waste_only_their_ends() -> None:
    packed = PackedAnswers(EXAMPLES, sequence_length=7, pad_id=0)
    items = [packed[index] for index in range(len(packed))]
    assert [item["input_ids"].tolist() for item in items] == [[1, 2, 3, 4, 5, 1, 6], [1, 2, 7, 8, 9, 0, 0]]
    assert [item["position_ids"].tolist() for item in items] == [[0, 1, 2, 3, 4, 0, 1], [0, 1, 2, 3, 4, 0, 1]]
    assert [item["labels"].tolist() for item in items] == [
        [IGNORED, IGNORED, IGNORED, 4, 5, IGNORED, 6],
        [IGNORED, IGNORED, 7, 8, 9, IGNORED, IGNORED],
    ]


def test_examples_of_one_sequence_do_not_attend_to_each_other(tiny_base_model: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_base_model).eval()
    model.config.use_cache = False
    (item,) = [PackedAnswers(EXAMPLES, sequence_length=16, pad_id=0)[0]]
    alone = [AnswerBatches([example], batch_size=1, pad_id=0)[0] for example in EXAMPLES]
    with torch.no_grad():
        together = model(**{name: tensor[None] for name, tensor in item.items()}).loss
        losses = [model(**batch).loss * len(example.answer_ids) for batch, example in zip(alone, EXAMPLES, strict=True)]
    num_scored = sum(len(example.answer_ids) for example in EXAMPLES)
    torch.testing.assert_close(together, sum(losses) / num_scored)


def test_four_bits_are_refused_without_a_gpu_before_anything_is_trained(
    training_settings: Callable[..., Settings], run: Callable[..., Making]
) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    settings = training_settings({"training": {"m2": {"trainable": "qlora"}}})
    run("m1_checkpoint", settings)
    with pytest.raises(TrainingError, match=r"training\.m2\.trainable=qlora holds the weights in 4 bits"):
        run("m2_adapter", settings)
