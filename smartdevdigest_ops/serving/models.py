"""The model that serves, and its successor: loaded beside it, swapped in between two batches.

For as long as both are loaded they need the memory of two. A release that is damaged, cannot be loaded, or cannot
digest one document leaves the one before where it is.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from smartdevdigest_ops.artifacts import Artifact, ArtifactStore
from smartdevdigest_ops.errors import UserError
from smartdevdigest_ops.release import released_model
from smartdevdigest_ops.serving.engine import Engine
from smartdevdigest_ops.serving.messages import ReleaseFailure
from smartdevdigest_ops.serving.metrics import ServingMetrics

LOG = logging.getLogger("smartdevdigest.serving")

# An artifact does not change, so what failed will mostly fail again; a GPU that was full may have room later.
_LOOKS_BETWEEN_TRIES = 12


@dataclass(frozen=True)
class ModelFiles:
    """Where a model lies, and which one it is."""

    version: str
    path: Path
    artifact: Artifact | None = None
    """What its bytes are checked against before they are loaded, if it comes from the store."""


FindModel = Callable[[], ModelFiles]
LoadModel = Callable[[Path], Engine]


def fixed_model(model_dir: Path) -> FindModel:
    """Always this directory; its version is its name, which in the store is the artifact's version."""
    found = ModelFiles(model_dir.resolve().name, model_dir)
    return lambda: found


def current_release(store: ArtifactStore) -> FindModel:
    """Whatever is released when it is called."""

    def find() -> ModelFiles:
        artifact = released_model(store)
        return ModelFiles(artifact.version, artifact.path, artifact)

    return find


@dataclass(frozen=True)
class ServedModel:
    """A model in memory."""

    version: str
    engine: Engine


class ModelHolder:
    """Holds the model that serves."""

    def __init__(self, find: FindModel, load: LoadModel, metrics: ServingMetrics) -> None:
        self._find = find
        self._load = load
        self._metrics = metrics
        self._looks_until_next_try = 0
        self.current: ServedModel | None = None
        """What the next batch is digested by; None until the first is loaded."""
        self.failure: ReleaseFailure | None = None
        """Why the current release is not what serves."""

    async def load_first(self) -> None:
        """Load the model that serving begins with.

        Raises:
            UserError: it cannot be found or loaded.
        """
        found = await asyncio.to_thread(self._find)
        self._swap_in(ServedModel(found.version, await asyncio.to_thread(self._load_sound, found)))

    async def refresh(self) -> None:
        """Look for another release, and serve it if it can be loaded."""
        version: str | None = None
        try:
            found = await asyncio.to_thread(self._find)
            version = found.version
            if self.current is not None and version == self.current.version:
                self._note_failure(None)
            elif not self._shall_wait(version):
                self._swap_in(ServedModel(version, await asyncio.to_thread(self._load_sound, found)))
        except UserError as error:
            self._note_failure(version, str(error))
        except Exception as error:
            LOG.exception("Loading release %s failed.", version)
            self._note_failure(version, f"{type(error).__name__}: {error}")

    def _load_sound(self, found: ModelFiles) -> Engine:
        if found.artifact is not None:
            found.artifact.refuse_damage()
        return self._load(found.path)

    def _swap_in(self, model: ServedModel) -> None:
        started = time.time()
        self.current = model
        self._metrics.note_model(model.version, started)
        self._note_failure(None)
        LOG.info("Serving model %s.", model.version)

    def _shall_wait(self, version: str) -> bool:
        """Whether this version failed a short while ago."""
        if self.failure is None or self.failure.release != version:
            return False
        self._looks_until_next_try -= 1
        return self._looks_until_next_try > 0

    def _note_failure(self, version: str | None, reason: str | None = None) -> None:
        if reason is None:
            self.failure = None
        else:
            serving = self.current.version if self.current else "none"
            LOG.error("Release %s is not served, model %s stays: %s", version or "unknown", serving, reason)
            self.failure = ReleaseFailure(
                release=version, message="The release could not be loaded; the server's log has the reason."
            )
            self._looks_until_next_try = _LOOKS_BETWEEN_TRIES
            self._metrics.failed_loads.inc()
        self._metrics.release_failing.set(reason is not None)
