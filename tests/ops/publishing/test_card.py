from dataclasses import replace

import pytest
import yaml
from huggingface_hub import ModelCard

from smartdevdigest_ops.models.terms import GEMMA
from smartdevdigest_ops.publishing.card import model_card
from smartdevdigest_ops.publishing.facts import ModelFacts

QUANTIZED = {
    "bytes": 119_000_000.0,
    "bits_per_quantized_weight": 4.36,
    "embedding_share_of_bytes": 0.49,
    "num_quantized_layers": 210.0,
    **{f"bits_per_byte_{language}_unquantized": 1.3 for language in ("ko", "en")},
    **{f"bits_per_byte_{language}_quantized": 1.35 for language in ("ko", "en")},
    **{f"bits_per_byte_{language}_rounded": 1.5 for language in ("ko", "en")},
}
FACTS = ModelFacts(
    version="0123456789abcdef",
    base_model="hf:ORG/NAME@main",
    base_revision="a" * 40,
    license="apache-2.0",
    terms=None,
    num_parameters=134_527_104,
    max_length=1024,
    ancestors={"base_model": "b" * 16, "m1_checkpoint": "c" * 16},
    settings={"quantization.bits": 4, "training.m1.max_steps": 32, "tokenizer.required_terms": ["쿠버네티스"]},
    metrics={"quantized_model": QUANTIZED},
    num_documents={"en": 1617, "ko": 837},
    num_labels=56,
    sources=(("kubernetes.io", "en", 765), ("3 others", "", 20)),
)
ENTRY = {"mean": 0.25, "low": 0.2, "high": 0.3, "n": 12}
UNDEFINED = {"mean": None, "low": None, "high": None, "n": 12}
REPORT = {
    "verdict": "12 of 12 answers of the candidate are valid digests.",
    "bootstrap": {"confidence": 0.95},
    "num_documents": {"en": 12},
    "systems": {"candidate": "Candidate (quantized M2)", "lead3": "Lead-3 baseline"},
    "valid_json_rate": {"candidate": ENTRY},
    "languages": {
        "en": {
            "candidate": {"rougeL": ENTRY, "difficulty_qwk": UNDEFINED, "valid_json_rate": ENTRY},
            "lead3": {"rougeL": ENTRY, "valid_json_rate": ENTRY},
        }
    },
}


def front_matter(card: str) -> dict:
    return yaml.safe_load(card.split("---")[1])


def test_front_matter_is_what_hugging_face_reads_with_the_figures_that_are_defined():
    card = model_card(FACTS, REPORT, name="digest-small")
    read = ModelCard(card).data
    assert read.base_model == "ORG/NAME"
    assert read.license == "apache-2.0"
    assert read.language == ["en", "ko"]
    assert read.pipeline_tag == "text-generation"
    assert "gptq" in read.tags
    assert [(result.metric_type, result.metric_value) for result in read.eval_results] == [
        ("rougeL", 0.25),
        ("valid_json_rate", 0.25),
    ]


def test_the_body_says_data_settings_figures_and_how_to_serve():
    card = model_card(FACTS, REPORT, name="digest-small")
    for line in (
        "# digest-small",
        "1,617 documents in en, 837 documents in ko for domain adaptation (M1), 56 labelled documents",
        "| kubernetes.io | en | 765 |",
        "| ROUGE-L | 0.250 [0.200, 0.300] | 0.250 [0.200, 0.300] |",
        "| Difficulty QWK | undefined |  |",
        "| Valid JSON | 0.250 [0.200, 0.300] |  |",
        "| ko | 1.300 | 1.350 | 1.500 |",
        "vllm serve . --dtype float16 --max-model-len 1024 --structured-outputs-config.backend guidance",
        'tokenizer.required_terms: ["쿠버네티스"]',
        "| m1_checkpoint | `cccccccccccccccc` |",
        "@misc{smartdevdigest-0123456789abcdef,",
    ):
        assert line in card
    table = card[card.index("| metric |") :].splitlines()
    assert {row.count("|") for row in table[:4]} == {4}


def test_a_base_model_under_terms_hands_them_on():
    card = model_card(replace(FACTS, base_model="package:gemma3/x.gguf", license="gemma", terms=GEMMA), None, name="g")
    data = front_matter(card)
    assert (data["license"], data["license_link"]) == ("gemma", GEMMA.url)
    assert "base_model" not in data
    assert GEMMA.policy_url in card
    assert "Not evaluated." in card


@pytest.mark.parametrize(
    "quantized",
    [{"bytes": 5e8}, {"bytes": 5e8, "bits_per_quantized_weight": 0.0, "embedding_share_of_bytes": 0.2}],
)
def test_an_unquantized_model_is_not_said_to_be_quantized(quantized):
    card = model_card(replace(FACTS, metrics={"quantized_model": quantized}), None, name="plain")
    assert "gptq" not in front_matter(card)["tags"]
    assert "bits cost" not in card
    assert "bits per quantized weight" not in card
    assert "| size | 500 MB, not quantized |" in card


def test_what_quantizing_cost_names_the_bits_that_were_used():
    assert "### What 4 bits cost" in model_card(FACTS, None, name="four")
    settings = dict(FACTS.settings) | {"quantization.bits": 8, "quantization.overrides": [{"layers": "x", "bits": 16}]}
    card = model_card(replace(FACTS, settings=settings), None, name="eight")
    assert "### What 8 bits cost" in card
    assert "before quantizing to 8 bits (some layers to others, see below), after" in card
    assert "4 bits" not in card


def test_layers_of_a_format_of_their_own_are_said_to_need_a_loader_that_reads_them():
    settings = {"quantization.overrides": [{"layers": "down_proj", "bits": 8, "group_size": None}]}
    card = model_card(replace(FACTS, settings=dict(FACTS.settings) | settings), None, name="mixed")
    assert "transformers alone does not" in card
    assert "transformers alone does not" not in model_card(FACTS, None, name="even")


def test_a_base_model_that_states_no_licence_is_said_to_state_none():
    card = model_card(replace(FACTS, license=None), None, name="plain")
    assert front_matter(card)["license"] == "other"
    assert "not stated by the base model" in card
