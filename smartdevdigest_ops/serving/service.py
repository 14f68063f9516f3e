"""What serves behind the HTTP interface: the model, its successor, the queue; from the first load to the stop."""

import asyncio

from smartdevdigest_ops.serving.batching import MicroBatcher
from smartdevdigest_ops.serving.messages import Readiness
from smartdevdigest_ops.serving.metrics import ServingMetrics
from smartdevdigest_ops.serving.models import FindModel, LoadModel, ModelHolder
from smartdevdigest_ops.settings import ServingSettings


class DigestService:
    """Model, queue and metrics of one server; all methods belong to its event loop."""

    def __init__(self, settings: ServingSettings, find: FindModel, load: LoadModel) -> None:
        self.settings = settings
        self.metrics = ServingMetrics()
        self.models = ModelHolder(find, load, self.metrics)
        self.batcher = MicroBatcher(settings, lambda: self.models.current, self.metrics)
        self.stopping = False
        """Whether no more documents are accepted."""

    async def run(self) -> None:
        """Load the model, then digest what is submitted and look for new releases, until cancelled.

        Raises:
            UserError: the first model cannot be loaded.
        """
        await self.models.load_first()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.batcher.run())
            tasks.create_task(self._watch())

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self.settings.reload_seconds)
            await self.models.refresh()

    async def stop(self) -> None:
        """Accept no more, and wait until what was accepted is digested, at most `stop_timeout_seconds`."""
        self.stopping = True
        self.metrics.stopping.set(1)
        try:
            async with asyncio.timeout(self.settings.stop_timeout_seconds):
                await self.batcher.drained()
        except TimeoutError:
            return  # what is left is cut off with its connections

    def close(self) -> None:
        """Give up what is left."""
        self.batcher.close()

    def readiness(self) -> Readiness:
        """Whether documents are accepted."""
        model = self.models.current
        return Readiness(
            ready=model is not None and not self.stopping,
            model=model.version if model else None,
            stopping=self.stopping,
            release_failure=self.models.failure,
        )
