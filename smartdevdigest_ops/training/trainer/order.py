"""The order of a run's data: what step s trains on is a function of the seed and of s alone.

Not of the micro-batch, of the number of processes or of where the run was interrupted. So a resumed run goes on with
the data it had not seen, and a step that goes wrong can be told by its documents.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from smartdevdigest_ops.settings import TrainingSettings
from smartdevdigest_ops.stage.distributed import num_processes
from smartdevdigest_ops.training.errors import TrainingError

if TYPE_CHECKING:
    import numpy as np


class RunOrder:
    """A map-style dataset: the items of the whole run one after another, each epoch in a permutation of its own.

    Without a seed the dataset's own order is the run's.
    """

    def __init__(self, dataset: Any, *, num_steps: int, items_per_step: int, seed: int | None) -> None:
        self._dataset = dataset
        self._num_steps = num_steps
        self._items_per_step = items_per_step
        self._seed = seed
        self._epoch: int | None = None
        self._permutation: np.ndarray

    def __len__(self) -> int:
        return self._num_steps * self._items_per_step

    def __getitem__(self, position: int) -> Any:
        """The dataset's item at this position of the run."""
        return self._dataset[self._index(position)]

    def _index(self, position: int) -> int:
        import numpy as np

        epoch, within = divmod(position, len(self._dataset))
        if self._seed is None:
            return within
        if epoch != self._epoch:
            self._epoch = epoch
            self._permutation = np.random.default_rng((self._seed, epoch)).permutation(len(self._dataset))
        return int(self._permutation[within])

    def indices_of(self, step: int) -> list[int]:
        """The dataset's items that optimizer step `step` (1 is the first) trains on, of all processes."""
        start = (step - 1) * self._items_per_step
        return [self._index(position) for position in range(start, start + self._items_per_step)]

    def name_documents(self, step: int, most: int = 8) -> str:
        """The documents of a step, for an error message; sequence numbers where the dataset names no documents."""
        indices = self.indices_of(step)
        if not hasattr(self._dataset, "documents_of"):
            return f"training items {_some(iter(map(str, indices)), most)}"
        documents = dict.fromkeys(str(name) for index in indices for name in self._dataset.documents_of(index))
        return f"documents {_some(iter(documents), most)}"


def share_out(settings: TrainingSettings, sequences_per_item: int, stage: str) -> tuple[int, int]:
    """Items per micro-step and micro-steps per optimizer step, of each process.

    Raises:
        TrainingError: the optimizer step cannot be divided by the processes.
    """
    processes = num_processes()
    items = max(1, settings.batch_size // sequences_per_item)
    if settings.gradient_accumulation % processes == 0:
        return items, settings.gradient_accumulation // processes
    if items % processes == 0:
        return items // processes, settings.gradient_accumulation
    section = f"training.{stage.split('_')[0]}"
    raise TrainingError(
        f"{section}: gradient_accumulation={settings.gradient_accumulation} micro-steps of "
        f"batch_size={settings.batch_size} cannot be shared by {processes} processes alike, and the optimizer step "
        f"must not depend on how many there are. Make {section}.gradient_accumulation a multiple of {processes}, or "
        "lower training.processes."
    )


def _some(names: Iterator[str], most: int) -> str:
    shown = [name for _, name in zip(range(most), names, strict=False)]
    more = sum(1 for _ in names)
    return ", ".join(shown) + (f" and {more} more" if more else "")
