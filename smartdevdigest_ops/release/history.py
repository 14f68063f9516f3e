"""The release and those before it, for a reader."""

from collections.abc import Iterator

from smartdevdigest_ops.artifacts import ArtifactStore
from smartdevdigest_ops.evaluation.report.verdict import format_interval
from smartdevdigest_ops.release.pointer import ReleaseError, release_chain


def history_lines(store: ArtifactStore) -> Iterator[str]:
    """A block per release, the current one first, and the models that are set aside.

    Raises:
        ReleaseError: nothing was released yet.
        ArtifactError: a release of the chain is gone or damaged.
    """
    made: dict[str, str] = {}
    for making in sorted(store.makings("release"), key=lambda making: making.created, reverse=True):
        made[making.version] = making.created  # the first time: later ones found it unchanged
    set_aside: dict[str, dict[str, str]] | None = None
    for release, content in release_chain(store):
        decision = content.get("decision", {"by": "gate"})
        current = " (current)" if set_aside is None else ""
        set_aside = content.get("set_aside", {}) if set_aside is None else set_aside
        yield f"release {release.version}{current}: model {content['quantized_model']}"
        how = f"{decision['by']}: {decision['why']}" if "why" in decision else decision["by"]
        yield f"  {made.get(release.version) or 'at an unknown time'}, by {how}"
        for language, fields in content["metrics"].items():
            yield f"  {language}: " + ", ".join(f"{name} {format_interval(entry)}" for name, entry in fields.items())
    if set_aside is None:
        raise ReleaseError(f"There is no release in {store.root} yet. `smartdevdigest run` makes one.")
    for model, entry in set_aside.items():
        yield f"set aside: model {model}, {entry['when']}: {entry['why']}"
