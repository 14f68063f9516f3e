"""What a change of drops, labels, takedowns or settings starts by itself, and in which order."""

from pathlib import Path

import dagster as dg
import pytest
from stories import DELIVERY, TRAINING, Beginning, Story, asked_for

from smartdevdigest_assets.definitions import defs


def test_the_first_drop_goes_all_the_way_and_every_stage_starts_once(beginning: Beginning):
    assert beginning.started == [
        ["base_model", "cleaned_documents[first]"],
        ["cleaned_corpus"],
        ["corpus_snapshot", "labeled_pairs"],
        *TRAINING,
        ["m2_adapter"],
        *DELIVERY,
        ["digests[first]"],
    ]


def test_a_small_drop_is_cleaned_labelled_and_digested_and_trains_nothing(story: Story):
    story.lands("small", 5)
    assert story.until_quiet() == [
        ["cleaned_documents[small]"],
        ["cleaned_corpus"],
        ["labeled_pairs", "digests[small]"],
    ]


def test_a_corpus_that_grew_by_the_share_trains_every_model_once_in_order(story: Story):
    story.lands("large", 10)
    assert story.until_quiet() == [
        ["cleaned_documents[large]"],
        ["cleaned_corpus"],
        # Not after the release that is coming: the one that is there digests it.
        ["corpus_snapshot", "labeled_pairs", "digests[large]"],
        *TRAINING,
        # Labels grew too: one M2 for both.
        ["m2_adapter"],
        *DELIVERY,
    ]


def test_small_drops_add_up_to_growth_since_the_last_snapshot(story: Story):
    trained = []
    for name in ("one", "two", "three", "four"):
        story.lands(name, 4)
        trained.append(["m1_checkpoint"] in story.until_quiet())
    assert trained == [False, False, True, False]


def test_a_drop_of_known_documents_alone_ends_at_the_corpus_and_its_labels(story: Story):
    story.world.taken_down = {f"copies/{index}" for index in range(50)}
    story.lands("copies", 50)
    assert story.until_quiet() == [
        ["cleaned_documents[copies]"],
        ["cleaned_corpus"],
        ["labeled_pairs", "digests[copies]"],
    ]


def test_labels_that_grew_alone_tune_m2_and_what_follows_it(story: Story):
    story.world.num_labels = 80
    story.set(data={"label_paths": ["data/sample/labels.en.jsonl"]})
    assert story.until_quiet() == [["labeled_pairs"], ["m2_adapter"], *DELIVERY]
    story.world.num_labels = 84
    story.set(data={"label_paths": ["data/sample/labels.ko.jsonl"]})
    assert story.until_quiet() == [["labeled_pairs"]]
    story.world.num_labels = 88
    story.set(data={"label_paths": ["data/sample/labels.en.jsonl", "data/sample/labels.ko.jsonl"]})
    assert story.until_quiet() == [["labeled_pairs"], ["m2_adapter"], *DELIVERY]


def test_another_teacher_tunes_m2_though_no_label_was_added(story: Story):
    story.set(labeling={"openai": {"model": "another"}})
    assert story.until_quiet() == [["labeled_pairs"], ["m2_adapter"], *DELIVERY]


def test_a_takedown_does_not_wait_for_growth_and_trains_every_model_once(story: Story, tmp_path: Path):
    takedowns = tmp_path / "takedown.txt"
    takedowns.write_text("https://elsewhere.example/page\n")
    story.set(data={"takedown_path": str(takedowns)})
    assert story.until_quiet() == [["cleaned_corpus"]]  # takes nothing out of the snapshot

    takedowns.write_text("https://elsewhere.example/page\nhttps://first.example/7\n")
    story.world.taken_down = {"first/7"}
    landed: list[list[str]] = []

    def land() -> None:
        story.execute(asked_for("cleaned_documents", partition=story.lands("small", 2)))
        landed.append(story.ticks())

    story.world.during["corpus_snapshot"] = land
    assert story.until_quiet() == [
        ["cleaned_corpus"],
        ["corpus_snapshot", "labeled_pairs"],
        # Assembled while the snapshot was being taken, it would have counted the same takedown again.
        ["cleaned_corpus"],
        ["domain_tokenizer", "labeled_pairs", "digests[small]"],
        ["m1_checkpoint"],
        ["m2_adapter"],
        *DELIVERY,
    ]
    assert landed == [[]]


def test_a_setting_starts_what_reads_it_and_what_stands_on_that(story: Story):
    story.set(training={"m1": {"learning_rate": 1e-4}})
    assert story.until_quiet() == [["m1_checkpoint"], ["m2_adapter"], *DELIVERY]
    story.set(training={"m1": {"learning_rate": 1e-4}}, evaluation={"bootstrap_samples": 200})
    assert story.until_quiet() == [["evaluation_report"], ["release"]]


def test_another_split_is_not_held_back_for_growth(story: Story):
    story.set(corpus={"split": {"valid_share": 0.2}})
    assert story.until_quiet() == [
        ["cleaned_corpus"],
        ["corpus_snapshot", "labeled_pairs"],
        *TRAINING,
        ["m2_adapter"],
        *DELIVERY,
    ]


def test_other_bounds_clean_every_drop_again_and_assemble_them_once(story: Story):
    for name in ("second", "third"):
        story.lands(name, 2)
    story.until_quiet()
    story.set(corpus={"quality": {"min_characters": 300}}, automation={"max_drops_in_progress": 2})
    assert story.until_quiet() == [
        ["cleaned_documents[second]", "cleaned_documents[third]"],
        ["cleaned_documents[first]"],
        ["cleaned_corpus"],
        ["labeled_pairs"],
    ]


def test_held_out_files_are_not_digested(story: Story):
    story.lands("held", 5)
    story.set(data={"valid_path": str(story.root / "held.jsonl")})
    started = story.until_quiet()
    assert ["cleaned_corpus"] in started
    assert not [name for starts in started for name in starts if name.startswith("digests")]


def test_a_share_of_zero_takes_every_change(story: Story):
    story.set(automation={"min_corpus_growth": 0, "min_label_growth": 0})
    story.lands("small", 1)
    assert story.until_quiet()[2:] == [
        ["corpus_snapshot", "labeled_pairs", "digests[small]"],
        *TRAINING,
        ["m2_adapter"],
        *DELIVERY,
    ]


def test_dagster_evaluates_the_conditions_of_the_code_location_too(story: Story):
    story.set(training={"m1": {"learning_rate": 1e-4}})
    result = dg.evaluate_automation_conditions(defs, story.instance, dg.AssetSelection.all())
    assert result.total_requested == 1
    assert result.get_num_requested(dg.AssetKey("m1_checkpoint")) == 1


def test_the_tick_tells_why_a_stage_starts_or_waits(story: Story, capfd: pytest.CaptureFixture[str]):
    story.lands("large", 20)
    story.ticks()
    story.finish()
    story.ticks()
    story.finish()
    story.set(training={"m2": {"learning_rate": 1e-4}})
    story.ticks()
    told = capfd.readouterr().err
    assert "corpus_snapshot starts: num_documents of cleaned_corpus: 100 -> 120" in told
    assert "m2_adapter waits for m1_checkpoint, labeled_pairs (changed: training.m2)" in told
