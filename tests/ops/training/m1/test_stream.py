"""The sequences of a run, in the order in which it sees them."""

from pathlib import Path

import pytest
import torch

from smartdevdigest_ops.training.m1.adaptation import Adaptation, say_replay
from smartdevdigest_ops.training.m1.objectives import Objective
from smartdevdigest_ops.training.m1.stream import TrainingStream
from smartdevdigest_ops.training.packing import PackedDocuments, pack_documents
from smartdevdigest_ops.training.trainer.run import TrainingRun

T = 16


@pytest.fixture(scope="module")
def packed(tiny_base_model: Path) -> dict[str, PackedDocuments]:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_base_model)
    texts = {"corpus": [f"pod {n} " * 12 for n in range(9)], "general": [f"soup {n} " * 8 for n in range(4)]}
    return {
        name: pack_documents(
            tokenizer, of_name, sequence_length=T, seed=3, name_of=lambda number, name=name: f"{name} {number}"
        )
        for name, of_name in texts.items()
    }


def stream_of(packed: dict[str, PackedDocuments], num_sequences: int, **changes) -> TrainingStream:
    given = {"general": packed["general"], "replay_share": 0.25, "objective": Objective(((0, 1.0),), 0.5, 7)}
    return TrainingStream(packed["corpus"], num_sequences, 3, **(given | changes))


def test_each_pass_sees_every_sequence_once_in_an_order_of_its_own(packed: dict[str, PackedDocuments]) -> None:
    size = len(packed["corpus"])
    stream = stream_of(packed, 3 * size, general=None)
    drawn = [stream.drawn(index) for index in range(len(stream))]
    passes = [[each.index for each in drawn if each.epoch == epoch] for epoch in range(3)]

    assert [sorted(of_pass) for of_pass in passes] == [list(range(size))] * 3
    assert passes[0] != passes[1] != passes[2]
    assert stream.num_replayed == 0


def test_general_text_is_the_share_that_was_asked_for_spread_evenly(packed: dict[str, PackedDocuments]) -> None:
    stream = stream_of(packed, 40)
    is_general = [stream.drawn(index).source == 1 for index in range(40)]

    assert [index for index, found in enumerate(is_general) if found] == list(range(3, 40, 4))
    assert stream.num_replayed == 10
    assert stream.replay_passes == 10 / len(packed["general"])
    replayed = [stream.drawn(index).index for index in range(3, 40, 4)]
    assert sorted(set(replayed)) == list(range(len(packed["general"])))[: len(set(replayed))]
    corpus = [stream.drawn(index).index for index in range(40) if not is_general[index]]
    assert len(set(corpus[: len(packed["corpus"])])) == len(packed["corpus"])
    assert all(name.startswith("general") for name in stream.documents_of(3))
    assert all(name.startswith("corpus") for name in stream.documents_of(4))


def test_a_part_of_the_run_holds_the_items_of_the_whole(packed: dict[str, PackedDocuments]) -> None:
    stream = stream_of(packed, 40)
    part = stream.part(10, 30).part(5, 15)

    assert len(part) == 10
    for index in range(10):
        for name, tensor in part[index].items():
            assert torch.equal(tensor, stream[15 + index][name]), name
    assert part.num_replayed == sum(stream.drawn(index).source for index in range(15, 25))
    with pytest.raises(IndexError):
        part[10]


def test_masks_are_the_same_when_drawn_again_and_others_in_the_next_pass(packed: dict[str, PackedDocuments]) -> None:
    size = len(packed["corpus"])
    stream, again = (stream_of(packed, 2 * size, general=None) for _ in range(2))
    places = [{stream.drawn(index).index: index for index in range(e * size, (e + 1) * size)} for e in range(2)]
    differing = 0
    for sequence in range(size):
        first, second = (stream[places[epoch][sequence]]["input_ids"] for epoch in range(2))
        assert torch.equal(first, again[places[0][sequence]]["input_ids"])
        differing += not torch.equal(first, second)
    assert differing == size


def test_bytes_count_the_corpus_and_not_what_is_replayed(packed: dict[str, PackedDocuments]) -> None:
    stream = stream_of(packed, 40)
    assert stream.corpus_bytes(40) == round(30 * T * packed["corpus"].bytes_per_token)
    assert stream.part(2, 4).corpus_bytes(2) == round(1 * T * packed["corpus"].bytes_per_token)


def test_a_run_that_was_stopped_early_counts_the_text_that_it_read(packed: dict[str, PackedDocuments]) -> None:
    stream = stream_of(packed, 40)
    curve = [{"step": step, "loss": 1.0, "learning_rate": 0.1, "tokens": 4 * T * step} for step in range(1, 6)]
    run = TrainingRun(curve, len(curve), 4 * T * len(curve), 1.0, None, None)  # 5 of 10 steps
    adapted = Adaptation(None, run, stream, 0, sequences_per_step=4)

    assert adapted.text_bytes == stream.corpus_bytes(20) == stream_of(packed, 20).corpus_bytes(20)
    assert [row["text_bytes"] for row in adapted.curve()] == [stream.corpus_bytes(4 * step) for step in range(1, 6)]
    assert (len(adapted.read), adapted.read.num_replayed) == (20, 5)


@pytest.mark.parametrize(("num_sequences", "warned"), [(8, False), (400, True)])
def test_replay_says_how_often_it_reads_the_same_text_and_warns_beyond_four_passes(
    packed: dict[str, PackedDocuments], num_sequences: int, warned: bool
) -> None:
    general = packed["general"]
    stream = stream_of(packed, num_sequences)
    said = say_replay(general, stream)

    assert f"the {len(general)} sequences of general text ({len(general) * T:,} tokens)" in said
    assert f"{num_sequences / 4 / len(general):.1f} times" in said
    assert ("Add files to data.general_paths (about 400 tokens in all" in said) == warned
