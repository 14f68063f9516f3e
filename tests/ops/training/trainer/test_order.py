"""The order of a run's data."""

import pytest

from smartdevdigest_ops.settings import TrainingSettings
from smartdevdigest_ops.training.errors import TrainingError
from smartdevdigest_ops.training.trainer.order import RunOrder, share_out


class Letters(list[str]):
    def documents_of(self, index: int) -> list[str]:
        return [self[index], "shared"]


def test_every_epoch_holds_every_item_once_in_an_order_of_its_own() -> None:
    order = RunOrder(list(range(10)), num_steps=5, items_per_step=4, seed=3)
    drawn = [order[position] for position in range(len(order))]

    first, second = drawn[:10], drawn[10:]
    assert sorted(first) == sorted(second) == list(range(10))
    assert first != second
    assert [order[position] for position in (15, 3, 15)] == [drawn[15], drawn[3], drawn[15]]
    assert drawn != [RunOrder(list(range(10)), num_steps=5, items_per_step=4, seed=4)[i] for i in range(20)]


def test_the_indices_of_a_step_are_what_it_draws() -> None:
    order = RunOrder(list(range(10)), num_steps=5, items_per_step=4, seed=3)
    assert order.indices_of(3) == [order[position] for position in range(8, 12)]


def test_without_a_seed_the_items_are_drawn_as_they_lie() -> None:
    order = RunOrder("abcd", num_steps=3, items_per_step=2, seed=None)
    assert "".join(order[position] for position in range(6)) == "abcdab"


def test_documents_of_a_step_are_named_once_each_and_the_rest_counted() -> None:
    order = RunOrder(Letters("abcd"), num_steps=1, items_per_step=4, seed=None)
    assert order.name_documents(1, most=3) == "documents a, shared, b and 2 more"
    assert RunOrder("abcd", num_steps=1, items_per_step=4, seed=None).name_documents(1) == "training items 0, 1, 2, 3"


@pytest.mark.parametrize(
    ("batch_size", "accumulation", "sequences_per_item", "expected"),
    [(4, 8, 1, (4, 2)), (8, 1, 1, (2, 1)), (4, 8, 4, (1, 2))],
)
def test_four_processes_share_the_optimizer_step_of_one(
    batch_size: int, accumulation: int, sequences_per_item: int, expected: tuple[int, int], monkeypatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    settings = TrainingSettings(
        batch_size=batch_size, gradient_accumulation=accumulation, learning_rate=0.1, epochs=1, warmup_steps=0
    )
    assert share_out(settings, sequences_per_item, "m1_checkpoint") == expected


def test_a_step_that_cannot_be_shared_alike_is_refused(monkeypatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    settings = TrainingSettings(batch_size=2, gradient_accumulation=3, learning_rate=0.1, epochs=1, warmup_steps=0)
    with pytest.raises(TrainingError, match=r"training\.m2\.gradient_accumulation a multiple of 4"):
        share_out(settings, 1, "m2_adapter")
