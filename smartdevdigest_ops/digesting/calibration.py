"""Calibration of the difficulty score: what a language's validation documents say about how far it is off.

`difficulty_calibration.json` lies beside a model and holds, per language, a non-decreasing map of the score as knots of
a broken line, and how it was chosen:

    method                  identity, linear or isotonic
    knots                   [[score, calibrated score], ...], flat beyond the ends
    num_documents           labelled validation documents that it was fitted on
    mae_identity, mae       cross-validated mean absolute error without, and with the chosen map
    candidates              {method: cross-validated mean absolute error}
    reason                  a sentence

Candidates are compared with leaving the score as it is on documents that they were not fitted on (leave-one-out, ten
folds from 50 documents on). One replaces identity only if its gain exceeds the standard error of the gain (the
one-standard-error rule), so that few labels, or a score that is good already, leave it as it is.

Source: Hastie, Tibshirani, Friedman, The Elements of Statistical Learning, 7.10 (one standard error); Barlow et al.
1972 (isotonic regression).
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from smartdevdigest_ops.digesting.errors import DigestingError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

CALIBRATION_FILE = "difficulty_calibration.json"
LOWEST, HIGHEST = 1.0, 5.0
# A line through fewer is a line through their noise, a staircase even more so.
_LEAST_DOCUMENTS = {"linear": 8, "isotonic": 24}
_LEAVE_ONE_OUT_BELOW = 50
_NUM_FOLDS = 10

Knots = tuple[tuple[float, float], ...]
IDENTITY: Knots = ((LOWEST, LOWEST), (HIGHEST, HIGHEST))


@dataclass(frozen=True)
class LanguageCalibration:
    """The map of one language, and how it was chosen; see the module's table."""

    method: str
    knots: Knots
    num_documents: int
    mae_identity: float
    mae: float
    candidates: Mapping[str, float]
    reason: str


@dataclass(frozen=True)
class DifficultyCalibration:
    """The maps by language; a language without one keeps its scores."""

    languages: Mapping[str, LanguageCalibration] = field(default_factory=dict)

    def apply(self, score: float, *, language: str) -> float:
        """The calibrated score, 1.0-5.0."""
        found = self.languages.get(language)
        return _interpolate(score, found.knots) if found else score


def fit_calibration(scores: Mapping[str, Sequence[tuple[float, float]]]) -> DifficultyCalibration:
    """Calibration of {language: [(score of the model, score of the label)]}, in an order that is always the same."""
    return DifficultyCalibration({language: _fit_language(pairs) for language, pairs in sorted(scores.items())})


def write_calibration(out: Path, calibration: DifficultyCalibration) -> None:
    """Write `difficulty_calibration.json` into the directory `out`."""
    content = {language: asdict(entry) for language, entry in calibration.languages.items()}
    (out / CALIBRATION_FILE).write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def read_calibration(model_dir: Path) -> DifficultyCalibration:
    """A model's calibration; scores stay as they are for a model without one.

    Raises:
        DigestingError: the file cannot be used.
    """
    path = model_dir / CALIBRATION_FILE
    if not path.is_file():
        return DifficultyCalibration()
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        languages = {
            language: LanguageCalibration(**entry | {"knots": _read_knots(entry["knots"])})
            for language, entry in content.items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DigestingError(
            f"{path} cannot be used ({error}), so that difficulty scores would mean something else than in this "
            "model's evaluation. Copy the whole model directory again, or materialize quantized_model again."
        ) from None
    return DifficultyCalibration(languages)


def _read_knots(knots: Sequence[Sequence[float]]) -> Knots:
    read = tuple((float(score), float(value)) for score, value in knots)
    scores, values = zip(*read, strict=True)
    if sorted(set(scores)) != list(scores) or sorted(values) != list(values):
        raise ValueError("knots must ascend")
    if not all(LOWEST <= value <= HIGHEST for value in values):
        raise ValueError("calibrated scores must lie between 1 and 5")
    return read


def _interpolate(score: float, knots: Knots) -> float:
    if score <= knots[0][0]:
        return knots[0][1]
    for (left, low), (right, high) in pairwise(knots):
        if score <= right:
            return low + (high - low) * (score - left) / (right - left)
    return knots[-1][1]


def _fit_language(pairs: Sequence[tuple[float, float]]) -> LanguageCalibration:
    import numpy as np

    score, gold = (np.asarray(column, dtype=np.float64) for column in zip(*pairs, strict=True))
    num = len(score)
    error = np.abs(score - gold)
    mae_identity = round(float(error.mean()), 4)
    candidates: dict[str, float] = {"identity": mae_identity}
    supported: dict[str, float] = {}
    for method, fit in _FITS.items():
        if num >= _LEAST_DOCUMENTS[method]:
            gains = error - np.abs(_held_out(score, gold, fit) - gold)
            candidates[method] = round(float(mae_identity - gains.mean()), 4)
            if gains.mean() > gains.std(ddof=1) / np.sqrt(num):
                supported[method] = candidates[method]
    if supported:
        method = min(supported, key=lambda name: supported[name])
        knots, reason = _FITS[method](score, gold), f"{method} gains more than the standard error of its gain"
    else:
        method, knots = "identity", IDENTITY
        few = f"{num} documents are too few to fit a map to ({min(_LEAST_DOCUMENTS.values())} needed)"
        reason = few if len(candidates) == 1 else "no map gains more than the standard error of its gain"
    return LanguageCalibration(
        method, knots, num, mae_identity, candidates[method], candidates, f"{reason}; {num} documents."
    )


def _held_out(score: "Floats", gold: "Floats", fit: "Callable[[Floats, Floats], Knots]") -> "Floats":
    """Each document's calibrated score by a map that was fitted without it."""
    import numpy as np

    num = len(score)
    folds = np.arange(num) % (num if num < _LEAVE_ONE_OUT_BELOW else _NUM_FOLDS)
    calibrated = np.empty(num)
    for fold in np.unique(folds):
        inside = folds == fold
        knots = fit(score[~inside], gold[~inside])
        calibrated[inside] = [_interpolate(float(value), knots) for value in score[inside]]
    return calibrated


def _fit_linear(score: "Floats", gold: "Floats") -> Knots:
    """Least squares, clipped to the scale; the mean of the labels where the score does not rise with them."""
    import numpy as np

    spread = ((score - score.mean()) ** 2).sum()
    slope = max(0.0, float(((score - score.mean()) * (gold - gold.mean())).sum() / spread)) if spread > 0 else 0.0
    ends = np.asarray([LOWEST, HIGHEST])
    low, high = gold.mean() + slope * (ends - score.mean())
    # Where the line leaves the scale, a knot bends it along the bound.
    crossings = [score.mean() + (bound - gold.mean()) / slope for bound in (LOWEST, HIGHEST)] if slope > 0 else []
    inner = [float(place) for place in crossings if LOWEST < place < HIGHEST]
    places = sorted({LOWEST, HIGHEST, *inner})
    values = np.clip(np.interp(places, ends, [low, high]), LOWEST, HIGHEST)
    return _knots(places, values.tolist())


def _fit_isotonic(score: "Floats", gold: "Floats") -> Knots:
    """The non-decreasing step function nearest to the labels, joined by lines."""
    from sklearn.isotonic import IsotonicRegression

    fitted = IsotonicRegression(y_min=LOWEST, y_max=HIGHEST, out_of_bounds="clip").fit(score, gold)
    return _knots(fitted.X_thresholds_.tolist(), fitted.y_thresholds_.tolist())


def _knots(places: Sequence[float], values: Sequence[float]) -> Knots:
    rounded = {round(place, 4): round(value, 4) for place, value in zip(places, values, strict=True)}
    return tuple(rounded.items())


_FITS: "Mapping[str, Callable[[Floats, Floats], Knots]]" = {"linear": _fit_linear, "isotonic": _fit_isotonic}
