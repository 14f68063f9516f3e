"""A model directory for others: the files of a quantized_model and the card beside them."""

import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from smartdevdigest_ops.artifacts import MANIFEST, ArtifactStore
from smartdevdigest_ops.errors import UserError
from smartdevdigest_ops.publishing.card import model_card
from smartdevdigest_ops.publishing.facts import gather_facts
from smartdevdigest_ops.release.pointer import current_release

CARD_FILE = "README.md"
REPORT_FILE = "report.json"


class ExportError(UserError):
    """The model cannot be written where it was asked for."""


def export_model(store: ArtifactStore, target: Path, *, name: str | None = None) -> Path:
    """Write the released model and its card to `target`, which must not exist or be empty; returns it.

    The directory appears whole or not at all. Its name is the model's, unless `name` is given.

    Raises:
        ReleaseError: nothing was released yet.
        ArtifactError: the model or a record behind it is damaged or gone.
        ExportError: `target` holds something.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ExportError(
            f"{target} exists and is not an empty directory; a model written into it would mix with what is there, "
            "so nothing was written. Name a new directory."
        )
    release = current_release(store)
    model = store.open("quantized_model", str(release["quantized_model"]))
    model.refuse_damage()
    report = _report(store, str(release["evaluation_report"]))
    card = model_card(gather_facts(store, model), report, name=name or target.resolve().name)
    target.parent.mkdir(parents=True, exist_ok=True)
    staged = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    try:
        for file in model.files:
            if file != MANIFEST:
                (staged / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(model.path / file, staged / file)
        (staged / CARD_FILE).write_text(card, encoding="utf-8")
        staged.chmod(0o755)
        if target.exists():
            target.rmdir()
        staged.rename(target)
    finally:
        shutil.rmtree(staged, ignore_errors=True)
    return target


def _report(store: ArtifactStore, version: str) -> Mapping[str, Any] | None:
    """The report that the release was accepted with; None where it is not in the store any more."""
    if not (store.root / "evaluation_report" / version / MANIFEST).is_file():
        return None
    file = store.open("evaluation_report", version).sound_file(REPORT_FILE)
    report: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return report
