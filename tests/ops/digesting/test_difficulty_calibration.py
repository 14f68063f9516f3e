import json
import random
import shutil
from dataclasses import replace

import pytest

from smartdevdigest_ops.digesting.calibrate import LabelledDocument, calibrate_difficulty, choose_labelled
from smartdevdigest_ops.digesting.calibration import (
    DifficultyCalibration,
    fit_calibration,
    read_calibration,
    write_calibration,
)
from smartdevdigest_ops.digesting.model import Digester, load_digester, write_digest_config


def fitted(pairs):
    return fit_calibration({"en": pairs}).languages["en"]


def noisy(num, of, seed=1):
    draw = random.Random(seed)
    scores = [draw.uniform(1.5, 4.5) for _ in range(num)]
    return [(score, min(5.0, max(1.0, of(score) + draw.gauss(0, 0.1)))) for score in scores]


def test_a_score_that_is_off_by_a_line_is_put_right():
    found = fitted(noisy(40, lambda score: 0.5 * score + 2))
    assert found.method in ("linear", "isotonic")
    assert found.mae < 0.2 < found.mae_identity
    calibration = DifficultyCalibration({"en": found})
    assert calibration.apply(2.0, language="en") == pytest.approx(3.0, abs=0.15)
    assert calibration.apply(2.0, language="ko") == 2.0


def test_a_step_is_followed_by_isotonic_regression_only():
    found = fitted(noisy(120, lambda score: 1.5 if score < 3 else 4.0))
    assert found.method == "isotonic"
    assert found.candidates["isotonic"] < found.candidates["linear"]


def test_a_good_score_is_left_alone_and_noise_is_not_fitted():
    assert fitted(noisy(40, lambda score: score)).method == "identity"


def test_too_few_labels_are_said_to_be_too_few():
    found = fitted([(2.0, 4.0)] * 5)
    assert found.method == "identity"
    assert "5 documents are too few" in found.reason


def test_maps_never_fall_and_stay_on_the_scale():
    calibration = fit_calibration({"en": noisy(60, lambda score: 6 - score), "ko": noisy(60, lambda s: 3 * s - 4)})
    for language in ("en", "ko"):
        values = [calibration.apply(1 + i / 50, language=language) for i in range(201)]
        assert values == sorted(values)
        assert 1 <= values[0] <= values[-1] <= 5


def test_a_line_that_leaves_the_scale_is_bent_along_its_bound():
    import numpy as np

    from smartdevdigest_ops.digesting.calibration import _fit_linear

    scores = np.linspace(2, 4, 21)
    knots = _fit_linear(scores, 2 * scores - 3)
    assert DifficultyCalibration({}).apply(3.0, language="en") == 3.0
    assert dict(knots) == pytest.approx({1.0: 1.0, 2.0: 1.0, 4.0: 5.0, 5.0: 5.0})


def test_a_calibration_is_read_as_it_was_written(tmp_path):
    calibration = fit_calibration({"en": noisy(40, lambda score: 0.5 * score + 2), "ko": [(2.0, 3.0)]})
    write_calibration(tmp_path, calibration)
    assert read_calibration(tmp_path) == calibration
    assert read_calibration(tmp_path / "elsewhere") == DifficultyCalibration()


@pytest.fixture
def digester(tiny_base_model, tmp_path, ci_settings):
    """The tiny model, one document at a time in windows of four."""
    shutil.copytree(tiny_base_model, tmp_path / "model")
    write_digest_config(tmp_path / "model", ci_settings)
    found = load_digester(tmp_path / "model", device="cpu", precision="float32", threads=1)
    found.settings = found.settings.model_copy(update={"batch_size": 1})
    return found


@pytest.fixture
def labelled(sample_documents):
    """Six documents of the sample whose difficulty is said to be 2."""
    return [LabelledDocument(d.url, d.language, d.title, d.content, 2.0) for d in sample_documents[:6]]


def test_a_killed_calibration_reads_only_the_documents_it_lacks(digester, labelled, tmp_path, monkeypatch):
    whole = calibrate_difficulty(digester, labelled, journal=tmp_path / "whole.jsonl")
    lines = (tmp_path / "whole.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    assert [len(json.loads(line)) for line in lines] == [4, 2]

    journal = tmp_path / "killed.jsonl"
    journal.write_text(lines[0] + lines[1][:30], encoding="utf-8")
    read = []
    original = Digester.read_difficulty

    def counted(self, documents, indices):
        read.append(sorted(indices))
        return original(self, documents, indices)

    monkeypatch.setattr(Digester, "read_difficulty", counted)
    assert calibrate_difficulty(digester, labelled, journal=journal) == whole
    assert read == [[4, 5]]
    assert journal.read_text(encoding="utf-8") == "".join(lines)


def test_a_document_that_cannot_be_read_is_no_part_of_the_calibration(digester, labelled, tmp_path):
    blank = replace(labelled[0], url="https://x.example/blank", content=" ")
    found = calibrate_difficulty(digester, [*labelled, blank], journal=tmp_path / "journal.jsonl")
    assert sum(of_language.num_documents for of_language in found.languages.values()) == len(labelled)


def test_labelled_documents_are_chosen_half_per_language_whatever_their_order(sample_documents, sample_labels):
    rows = [
        {
            "url": document.url,
            "language": document.language,
            "title": document.title,
            "content": document.content,
            "label": sample_labels[document.url].model_dump_json(),
        }
        for document in sample_documents
    ]
    weights = dict.fromkeys(sample_labels[rows[0]["url"]].difficulty_factors.model_dump(), 1.0)
    chosen = choose_labelled(rows, 10, weights)
    assert [document.language for document in chosen] == ["en"] * 5 + ["ko"] * 5
    assert chosen == choose_labelled(rows[::-1], 10, weights)
