"""What starts, and what does not, after something failed, was refused or was cancelled."""

import dagster as dg
import pytest
from stories import DELIVERY, TRAINING, Story

from smartdevdigest_ops.errors import UserError
from smartdevdigest_ops.stage import STAGE_MODULES


def test_a_failed_m1_is_not_started_again_and_holds_back_what_stands_on_it(story: Story):
    story.world.crashing = {"m1_checkpoint"}
    story.lands("large", 30)
    started = story.until_quiet()
    assert started[-2:] == TRAINING
    assert [story.ticks() for _ in range(3)] == [[], [], []]
    # Labels grow meanwhile by far more than the share: no M2 on an M1 that is to be replaced.
    story.lands("more", 2)
    assert story.until_quiet() == [
        ["cleaned_documents[more]"],
        ["cleaned_corpus"],
        ["labeled_pairs", "digests[more]"],
    ]


def test_m1_is_not_trained_on_the_tokenizer_of_an_older_snapshot(story: Story):
    story.world.crashing = {"domain_tokenizer"}
    story.lands("large", 30)
    assert story.until_quiet()[-1] == ["domain_tokenizer"]
    story.world.crashing = set()
    story.materialize("domain_tokenizer")
    assert story.until_quiet() == [["m1_checkpoint"], ["m2_adapter"], *DELIVERY]


def test_a_failed_m1_is_tried_again_when_what_it_is_trained_on_changes(story: Story):
    story.world.crashing = {"m1_checkpoint"}
    story.lands("large", 30)
    story.until_quiet()
    story.world.crashing = set()
    story.lands("larger", 40)
    assert [starts for starts in story.until_quiet() if starts[0] in STAGE_MODULES][-6:] == [
        *TRAINING, ["m2_adapter"], *DELIVERY,
    ]  # fmt: skip


def test_a_failed_m1_that_somebody_made_by_hand_lets_the_rest_go_on(story: Story):
    story.world.crashing = {"m1_checkpoint"}
    story.lands("large", 30)
    story.until_quiet()
    story.world.crashing = set()
    assert story.materialize("m1_checkpoint") is dg.DagsterRunStatus.SUCCESS
    assert story.until_quiet() == [["m2_adapter"], *DELIVERY]


def test_a_failed_m2_is_not_tried_again_for_a_few_labels_but_for_enough_of_them(story: Story):
    story.world.crashing = {"m2_adapter"}
    story.set(training={"m2": {"learning_rate": 1e-4}})
    assert story.until_quiet() == [["m2_adapter"]]
    story.lands("small", 5)
    assert ["m2_adapter"] not in story.until_quiet()
    story.world.crashing = set()
    story.lands("more", 5)
    assert ["m2_adapter"] in story.until_quiet()


def test_a_stage_above_a_failed_one_goes_on_as_before(story: Story):
    story.world.crashing = {"quantized_model"}
    story.set(training={"m2": {"learning_rate": 1e-4}})
    assert story.until_quiet() == [["m2_adapter"], ["quantized_model"]]
    story.lands("large", 20)
    assert story.until_quiet()[-1:] == [["quantized_model"]]  # for another M2: tried again


def test_a_failed_corpus_holds_back_no_change_below_its_snapshot(story: Story):
    story.world.crashing = {"cleaned_corpus"}
    story.lands("large", 20)
    assert story.until_quiet() == [["cleaned_documents[large]"], ["cleaned_corpus"]]
    story.set(training={"m1": {"learning_rate": 1e-4}})
    assert story.until_quiet() == [["m1_checkpoint"], ["m2_adapter"], *DELIVERY]


def test_what_failed_a_blocking_check_is_built_on_by_nothing_and_made_no_second_time(story: Story):
    story.world.refused = {"m1_checkpoint"}
    story.set(training={"m1": {"learning_rate": 1e-4}})
    assert story.until_quiet() == [["m1_checkpoint"]]
    story.cursor = None
    assert story.ticks() == []


def test_a_crash_is_tried_once_more_when_the_cursor_is_lost(story: Story):
    story.world.crashing = {"m1_checkpoint"}
    story.set(training={"m1": {"learning_rate": 1e-4}})
    assert story.until_quiet() == [["m1_checkpoint"]]
    story.cursor = None
    assert story.until_quiet() == [["m1_checkpoint"]]


def test_a_cancelled_run_is_not_started_again(story: Story):
    story.set(training={"m1": {"learning_rate": 1e-4}})
    assert story.ticks() == ["m1_checkpoint"]
    story.cancel()
    assert story.ticks() == []


def test_a_refused_candidate_is_not_decided_on_again_and_drops_go_on_being_digested(story: Story):
    story.world.refused = {"release"}
    story.set(training={"m2": {"learning_rate": 1e-4}})
    assert story.until_quiet() == [["m2_adapter"], *DELIVERY]
    story.cursor = None
    story.lands("small", 5)
    assert story.until_quiet()[-1] == ["labeled_pairs", "digests[small]"]
    story.world.refused = set()
    story.set(training={"m2": {"learning_rate": 2e-4}})
    assert story.until_quiet() == [["m2_adapter"], *DELIVERY]


def test_a_drop_that_cannot_be_cleaned_holds_up_no_other(story: Story):
    story.world.crashing = {"cleaned_documents"}
    story.lands("bad", 5)
    assert story.until_quiet() == [["cleaned_documents[bad]"]]
    story.world.crashing = set()
    story.lands("good", 20)
    started = story.until_quiet()
    assert started[:3] == [
        ["cleaned_documents[good]"],
        ["cleaned_corpus"],
        ["corpus_snapshot", "labeled_pairs", "digests[good]"],
    ]
    assert started[-1] == ["release"]


def test_a_drop_without_records_starts_nothing(story: Story):
    story.world.crashing = {"raw_crawl"}
    story.lands("bad", 5)
    assert story.ticks() == []


def test_a_missing_label_file_stops_the_labels_and_nothing_else(story: Story):
    story.set(data={"label_paths": ["data/no_such_file.jsonl"]})
    story.lands("large", 20)
    assert story.until_quiet()[:4] == [
        ["cleaned_documents[large]"],
        ["cleaned_corpus"],
        ["corpus_snapshot", "digests[large]"],
        ["domain_tokenizer"],
    ]


def test_settings_that_are_refused_fail_the_tick_with_their_reason(story: Story):
    story.set(automation={"min_corpus_growth": -1})
    with pytest.raises(Exception, match="Error while evaluating") as failed:
        story.ticks()
    assert isinstance(failed.value.__cause__, UserError)
    assert "automation.min_corpus_growth" in str(failed.value.__cause__)
