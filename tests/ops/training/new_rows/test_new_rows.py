"""New rows fitted to the frozen base model: only they move, they predict better, and a kill changes nothing."""

import dataclasses
import json
from collections import Counter
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase

from smartdevdigest_ops.contracts import CrawlRecord
from smartdevdigest_ops.models.embeddings import extend_embeddings
from smartdevdigest_ops.settings.training import NewRowsSettings
from smartdevdigest_ops.stage import StageContext
from smartdevdigest_ops.training.bits_per_byte import bits_per_byte
from smartdevdigest_ops.training.errors import TrainingError
from smartdevdigest_ops.training.new_rows import fit as new_rows
from smartdevdigest_ops.training.new_rows.fit import fit_new_rows
from smartdevdigest_ops.training.new_rows.frozen_model import FrozenModel
from smartdevdigest_ops.training.new_rows.hooks import NewRows, seen_by
from smartdevdigest_ops.training.new_rows.snippets import draw_snippets, expand
from smartdevdigest_ops.training.trainer.kernels import choose_kernels

SETTINGS = NewRowsSettings(max_base_tokens=1024, snippet_tokens=64, passes=1, output_epochs=4)


@pytest.fixture(scope="module")
def tokenizer(domain_tokenizer_dir: Path) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(domain_tokenizer_dir)


@pytest.fixture(scope="module")
def new_tokens(domain_tokenizer_dir: Path) -> list[dict]:
    return json.loads((domain_tokenizer_dir / "new_tokens.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def texts(sample_documents: list[CrawlRecord]) -> list[str]:
    return [record.content for record in sample_documents if "쿠버네티스" in record.content][:8]


def build_model(new_tokens: list[dict], *, tied: bool, multiple_of: int = 64) -> LlamaForCausalLM:
    """A random model, extended. Its rows are large enough for predictions to differ from each other."""
    torch.manual_seed(3)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=new_tokens[0]["id"],
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            tie_word_embeddings=tied,
            initializer_range=0.2,
        )
    )
    extend_embeddings(model, new_tokens, multiple_of=multiple_of)
    return model.eval()


@pytest.mark.parametrize("tied", [True, False])
def test_only_new_rows_that_were_seen_move(
    tied: bool, new_tokens: list[dict], texts: list[str], tokenizer: PreTrainedTokenizerBase, context: StageContext
) -> None:
    unseen = {"id": new_tokens[-1]["id"] + 1, "token": "never", "base_ids": [5, 6]}
    model = build_model([*new_tokens, unseen], tied=tied)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    report = fit_new_rows(model, [*new_tokens, unseen], texts, tokenizer, SETTINGS, context)

    assert report is not None
    seen = round(report.share_of_tokens_seen * 3)
    assert seen >= 1
    moved = {"model.embed_tokens.weight", "lm_head.weight"}
    first = new_tokens[0]["id"]
    for name, tensor in model.state_dict().items():
        rows = (tensor != before[name]).flatten(1).any(dim=1).nonzero()[:, 0].tolist() if name in moved else []
        assert name in moved or torch.equal(tensor, before[name]), name
        if name in moved:
            assert set(rows) <= set(range(first, first + 2))
            assert len(rows) == seen
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert (model.lm_head.weight is model.model.embed_tokens.weight) == tied


@pytest.mark.parametrize("tied", [True, False])
def test_the_text_is_predicted_better_than_with_means(
    tied: bool, new_tokens: list[dict], texts: list[str], tokenizer: PreTrainedTokenizerBase, context: StageContext
) -> None:
    model = build_model(new_tokens, tied=tied)
    scored = [text[text.index("쿠버네티스") :][:300] for text in texts]
    means = bits_per_byte(model, tokenizer, scored, sequence_length=64)
    fit_new_rows(model, new_tokens, texts, tokenizer, SETTINGS, context)
    assert bits_per_byte(model, tokenizer, scored, sequence_length=64) < means


@pytest.mark.parametrize("phase", ["outputs", "passes"])
def test_a_fit_that_was_killed_and_resumed_gives_the_same_rows(
    phase: str,
    new_tokens: list[dict],
    texts: list[str],
    tokenizer: PreTrainedTokenizerBase,
    context: StageContext,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = build_model(new_tokens, tied=True)
    scratch = tmp_path / "of_the_whole"
    scratch.mkdir()
    fit_new_rows(whole, new_tokens, texts, tokenizer, SETTINGS, dataclasses.replace(context, scratch=scratch))

    monkeypatch.setattr(new_rows, "_SECONDS_BETWEEN_CHECKPOINTS", -1.0)
    save = new_rows.save_rows

    def save_and_die(file: Path, *args: object) -> None:
        save(file, *args)
        if file.stem == phase:
            raise KeyboardInterrupt

    monkeypatch.setattr(new_rows, "save_rows", save_and_die)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            fit_new_rows(build_model(new_tokens, tied=True), new_tokens, texts, tokenizer, SETTINGS, context)
    monkeypatch.setattr(new_rows, "save_rows", save)
    resumed = build_model(new_tokens, tied=True)
    fit_new_rows(resumed, new_tokens, texts, tokenizer, SETTINGS, context)
    assert torch.equal(resumed.model.embed_tokens.weight, whole.model.embed_tokens.weight)


def test_the_teachers_states_give_the_loss_of_the_model_itself(
    new_tokens: list[dict], texts: list[str], tokenizer: PreTrainedTokenizerBase, context: StageContext
) -> None:
    """Before anything moves, log p of an old token with no new one before it is what the model says."""
    model = build_model(new_tokens, tied=True)
    expansions = {token["id"]: tuple(token["base_ids"]) for token in new_tokens}
    snippet = [40, 41, new_tokens[0]["id"], 42]
    rows = NewRows.of(model, new_tokens[0]["id"], 2)
    kernels = choose_kernels("cpu", "float32", context.scratch / "kernels.json")
    asked = FrozenModel(
        model, rows, [snippet], expansions, 0, batch_size=1, seed=0, kernels=kernels, scratch=context.scratch
    )
    teacher = asked.read_teacher()

    with torch.no_grad():
        base_logits = model(torch.tensor([[0, *expand(snippet, expansions)]])).logits[0, :, : rows.first]
    width = len(expansions[snippet[2]])
    at = [0, 1, 2, 2 + width]
    torch.testing.assert_close(teacher.log_total_P, base_logits[at].logsumexp(dim=-1))
    next_ids = [40, 41, expansions[snippet[2]][0], 42]
    torch.testing.assert_close(teacher.old_logit_P, base_logits[at, next_ids])
    assert teacher.target_P.tolist() == snippet


@pytest.mark.parametrize("tied", [True, False])
def test_hooked_rows_compute_what_written_rows_do(tied: bool, new_tokens: list[dict]) -> None:
    model = build_model(new_tokens, tied=tied)
    rows = NewRows.of(model, new_tokens[0]["id"], 2)
    with torch.no_grad():
        for parameter in rows.parameters:
            parameter += torch.randn(parameter.shape)
        token_ids = torch.tensor([[1, new_tokens[0]["id"], 2, new_tokens[1]["id"]]])
        means = model(token_ids).logits
        with seen_by(model, rows):
            hooked = model(token_ids).logits
        rows.write_to(model)
        written = model(token_ids).logits
    torch.testing.assert_close(hooked, written)
    assert not torch.allclose(means, written)


def test_no_new_tokens_and_the_method_mean_leave_the_model_alone(
    new_tokens: list[dict], texts: list[str], tokenizer: PreTrainedTokenizerBase, context: StageContext
) -> None:
    model = build_model(new_tokens, tied=True)
    before = model.model.embed_tokens.weight.clone()
    assert fit_new_rows(model, [], texts, tokenizer, SETTINGS, context) is None
    mean = SETTINGS.model_copy(update={"method": "mean"})
    assert fit_new_rows(model, new_tokens, texts, tokenizer, mean, context) is None
    assert fit_new_rows(model, new_tokens, ["nothing new here"], tokenizer, SETTINGS, context) is None
    assert torch.equal(model.model.embed_tokens.weight, before)


def test_a_model_that_caps_its_logits_is_refused(
    new_tokens: list[dict], texts: list[str], tokenizer: PreTrainedTokenizerBase, context: StageContext
) -> None:
    model = build_model(new_tokens, tied=True)
    forward = model.forward

    def capped(*args: object, **kwargs: object) -> object:
        output = forward(*args, **kwargs)
        output.logits = 2.0 * torch.tanh(output.logits / 2.0)
        return output

    model.forward = capped
    with pytest.raises(TrainingError, match="changes its logits after the head"):
        fit_new_rows(model, new_tokens, texts, tokenizer, SETTINGS, context)


def test_snippets_keep_to_the_budget_and_show_rare_tokens(
    new_tokens: list[dict], texts: list[str], tokenizer: PreTrainedTokenizerBase
) -> None:
    expansions = {token["id"]: tuple(token["base_ids"]) for token in new_tokens}
    common, rare = (token["id"] for token in new_tokens)
    words = {common: "쿠버네티스", rare: "컨테이너"}
    documents = [f"{'the document says something here ' * 4}{words[common]} " * 4 for _ in range(40)]
    documents[17] += words[rare]
    snippets = draw_snippets(
        tokenizer, documents, expansions, max_base_tokens=640, snippet_tokens=64, occurrences=3, seed=5
    )
    assert len(snippets) <= 10
    assert all(0 < len(expand(snippet, expansions)) <= 64 for snippet in snippets)
    counts = Counter(token_id for snippet in snippets for token_id in snippet)
    assert counts[rare] == 1
    assert counts[common] >= 3
    again = draw_snippets(
        tokenizer, documents, expansions, max_base_tokens=640, snippet_tokens=64, occurrences=3, seed=5
    )
    assert again == snippets
