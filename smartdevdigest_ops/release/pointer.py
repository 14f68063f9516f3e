"""The artifact `release`: one file, release.json, that names the model that is served.

quantized_model      version of the model
evaluation_report    version of the report it was accepted with
accepted             false only in what a refused first candidate left, which never becomes current
reasons              what was compared, in sentences
metrics              {language: {field: {"mean", "low", "high", "n"}}}: what the next candidate has to reach
previous             version of the release before, or null
decision             {"by": "gate" | "promotion" | "rollback", "from", "to"}, and of the last two "why" and "when"
set_aside            {model version: {"when", "why"}}: models that somebody decided against; only somebody's
promotion releases them again
"""

import json
from collections.abc import Iterator
from typing import Any

from smartdevdigest_ops.artifacts import Artifact, ArtifactError, ArtifactStore
from smartdevdigest_ops.errors import UserError

RELEASE_FILE = "release.json"


class ReleaseError(UserError):
    """The gate cannot be decided, or a decision cannot be carried out."""


def read_release(artifact: Artifact) -> dict[str, Any]:
    """Content of a release artifact, checked against its hash.

    Raises:
        ArtifactError: release.json is missing or damaged.
    """
    path = artifact.path / RELEASE_FILE
    try:
        artifact.sound_file(RELEASE_FILE)
        release: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, ArtifactError) as error:
        raise ArtifactError(
            f"{path} could not be read ({error}), so it is unknown which model is served. Run `smartdevdigest verify`."
        ) from None
    return release


def current_release(store: ArtifactStore) -> dict[str, Any]:
    """Content of the current release, read once: whoever needs two things of it gets both of the same one.

    Raises:
        ReleaseError: nothing was released yet.
        ArtifactError: it is damaged.
    """
    release = store.current("release")
    if release is None:
        raise ReleaseError(
            f"There is no release in {store.root} yet. `smartdevdigest run` makes one, or --model DIR names a model."
        )
    return read_release(release)


def released_model(store: ArtifactStore) -> Artifact:
    """The quantized model that is served.

    Raises:
        ReleaseError: nothing was released yet.
        ArtifactError: the release is damaged, or its model is gone.
    """
    return store.open("quantized_model", str(current_release(store)["quantized_model"]))


def release_chain(store: ArtifactStore) -> Iterator[tuple[Artifact, dict[str, Any]]]:
    """Releases with their contents, the current one first, each followed by the one before it.

    Raises:
        ArtifactError: one of them is gone or damaged.
    """
    release, seen = store.current("release"), set[str]()
    while release is not None and release.version not in seen:
        seen.add(release.version)
        content = read_release(release)
        yield release, content
        previous = content.get("previous")
        release = store.open("release", previous) if previous else None


def release_before(store: ArtifactStore, candidate: str) -> Artifact | None:
    """The newest release of another model than `candidate`; None where there is none.

    It is the same before and after the candidate itself is released.

    Raises:
        ArtifactError: a release's file is missing or damaged.
    """
    others = (release for release, content in release_chain(store) if content["quantized_model"] != candidate)
    return next(others, None)
