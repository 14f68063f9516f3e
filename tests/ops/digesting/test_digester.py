import json
import shutil
from dataclasses import dataclass

import pytest

from smartdevdigest_ops.contracts import Digest
from smartdevdigest_ops.digesting.errors import DigestingError, GenerationError
from smartdevdigest_ops.digesting.model import DIGEST_CONFIG, load_digester, read_digest_config, write_digest_config


@dataclass(frozen=True)
class Document:
    title: str | None
    content: str
    language: str = "en"


@pytest.fixture
def model_dir(tiny_base_model, tmp_path, ci_settings):
    """The tiny model with its digest_config.json."""
    directory = tmp_path / "model"
    shutil.copytree(tiny_base_model, directory)
    write_digest_config(directory, ci_settings)
    return directory


def load(model_dir):
    return load_digester(model_dir, device="cpu", precision="float32", threads=1)


def test_outcomes_come_in_the_documents_order_with_their_index(model_dir, sample_documents):
    documents = sample_documents[:20]
    digester = load(model_dir)
    outcomes = list(digester.digest(documents))
    assert [outcome.index for outcome in outcomes] == list(range(20))
    for document, outcome in zip(documents, outcomes, strict=True):
        assert outcome.valid
        assert isinstance(outcome.digest, Digest)
        has_code = "```" in document.content
        assert (outcome.raw_answer["difficulty_factors"]["code_complexity"] is not None) == has_code
        assert 0 < outcome.covered_share <= 1
        assert outcome.num_new_tokens <= digester.settings.max_new_tokens
        assert outcome.seconds > 0


def test_batches_hold_each_document_once_and_documents_of_like_length(model_dir):
    documents = [Document(None, "x" * (1 + 97 * i % 401)) for i in range(40)]
    batches = load(model_dir).plan_batches(documents)
    assert sorted(index for batch in batches for index in batch) == list(range(40))
    assert [len(batch) for batch in batches] == [40]
    lengths = [len(documents[index].content) for index in batches[0]]
    assert lengths == sorted(lengths)
    many = load(model_dir).plan_batches(documents * 4)
    assert [(min(batch), max(batch), len(batch)) for batch in many] == [(0, 63, 64), (64, 127, 64), (128, 159, 32)]


def test_a_document_that_fails_leaves_the_rest_of_its_batch_alone(model_dir):
    outcomes = list(load(model_dir).digest([Document(None, " \n"), Document("T", "A pod runs."), Document(None, "")]))
    assert [outcome.valid for outcome in outcomes] == [False, True, False]
    assert "blank" in outcomes[0].error
    assert outcomes[0].raw_answer is None
    assert not next(load(model_dir).digest([Document(None, "")])).valid


def test_an_outcome_says_whether_the_document_or_the_model_is_at_fault(model_dir, monkeypatch):
    digester = load(model_dir)
    failing = lambda questions, **_: [GenerationError("not finite") for _ in questions]  # noqa: E731
    monkeypatch.setattr(digester.generator, "generate", failing)
    blank, failed = digester.digest([Document(None, " "), Document("T", "A pod runs.")])
    assert (blank.fault, failed.fault, failed.error) == ("document", "model", "not finite")


def test_the_model_is_asked_as_its_config_says(model_dir, ci_settings):
    config = read_digest_config(model_dir)
    assert config.max_length == ci_settings.model.max_length
    assert config.digesting == ci_settings.digesting
    (model_dir / DIGEST_CONFIG).unlink()
    assert read_digest_config(model_dir).digesting.max_new_tokens == 512


def test_a_config_of_another_prompt_is_refused(model_dir):
    path = model_dir / DIGEST_CONFIG
    path.write_text(json.dumps(json.loads(path.read_text()) | {"prompt_version": "0"}))
    with pytest.raises(DigestingError, match="prompt version '0'"):
        load(model_dir)


@pytest.mark.parametrize("content", ["{", "[]", '{"prompt_version": "1", "max_length": 5, "digesting": {"x": 1}}'])
def test_a_damaged_config_is_refused_with_its_path(model_dir, content):
    (model_dir / DIGEST_CONFIG).write_text(content)
    with pytest.raises(DigestingError, match=r"digest_config\.json cannot be used"):
        load(model_dir)


def test_a_directory_that_is_no_model_is_refused(tmp_path):
    with pytest.raises(DigestingError, match=r"no config\.json"):
        load(tmp_path)


def test_a_long_document_is_read_in_parts_and_says_what_it_covers(model_dir, ci_settings):
    path = model_dir / DIGEST_CONFIG
    config = json.loads(path.read_text())
    section = "## Part {}\n\n" + "The scheduler places a pod on a node that has room for it. " * 12 + "\n\n"
    long = Document("Scheduling", "".join(section.format(number) for number in range(6)))
    short = Document("Short", "A pod runs.")
    (cut, _) = load(model_dir).digest([long, short])
    assert (cut.num_parts, cut.covered_share < 0.6) == (1, True)

    def with_parts(most):
        config["digesting"] |= {"long_documents": "map_reduce", "max_parts": most}
        path.write_text(json.dumps(config))
        return list(load(model_dir).digest([long, short]))

    whole, single = with_parts(20)
    assert whole.valid
    assert whole.num_parts > 2
    assert whole.covered_share == pytest.approx(1, abs=0.01)
    assert (single.num_parts, single.covered_share) == (1, 1.0)
    bounded, _ = with_parts(2)
    assert bounded.num_parts == 2
    assert cut.covered_share < bounded.covered_share < 0.99


def test_the_models_calibration_moves_the_score(model_dir, sample_documents):
    from smartdevdigest_ops.digesting.calibration import CALIBRATION_FILE, fit_calibration, write_calibration

    before = next(load(model_dir).digest([Document(None, "A pod runs.")])).digest.difficulty_level.score
    pairs = [(1 + i / 10, 5.0 if i % 2 else 4.9) for i in range(40)]
    write_calibration(model_dir, fit_calibration({"en": pairs}))
    after = next(load(model_dir).digest([Document(None, "A pod runs.")])).digest.difficulty_level.score
    assert before < 4
    assert after >= 4.8
    (model_dir / CALIBRATION_FILE).write_text('{"en": {"knots": [[1, 3], [5, 2]]}}')
    with pytest.raises(DigestingError, match=r"difficulty_calibration\.json cannot be used"):
        load(model_dir)


def test_difficulty_is_read_without_the_rest_of_the_answer(model_dir, sample_documents):
    documents = sample_documents[:3]
    digester = load(model_dir)
    scores = digester.read_difficulty(documents, [0, 1, 2])
    digests = list(digester.digest(documents))
    assert [round(scores[i], 1) for i in range(3)] == [d.digest.difficulty_level.score for d in digests]


def test_difficulty_is_read_of_a_document_whose_first_line_of_code_does_not_fit(model_dir):
    document = Document("Keys", "```\n" + "x = 1; " * 4000 + "\n```\n")
    digester = load(model_dir)
    (outcome,) = digester.digest([document])
    assert (outcome.valid, outcome.covered_share) == (True, 0.0)
    assert 1.0 <= digester.read_difficulty([document], [0])[0] <= 5.0
