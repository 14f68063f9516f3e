"""What starts, and what waits, while runs are under way or the daemon is restarted."""

import os
import socket

import dagster as dg
import psutil
import pytest
from sensor_daemon import NO_PROCESS
from stories import DELIVERY, TRAINING, Story, asked_for

from smartdevdigest_assets.in_progress import PROCESS_TAG, assets_in_progress, process_tag


@pytest.mark.parametrize("cursor", ["kept", "lost"])
def test_a_restart_of_the_daemon_neither_loses_nor_doubles_a_start(story: Story, cursor: str):
    story.lands("large", 20)
    started = []
    while starts := story.ticks():
        started.append(starts)
        if cursor == "lost":
            story.cursor = None
        assert story.ticks() == []  # the runs are queued
        story.finish()
        if cursor == "lost":
            story.cursor = None
    assert started == [
        ["cleaned_documents[large]"],
        ["cleaned_corpus"],
        ["corpus_snapshot", "labeled_pairs", "digests[large]"],
        *TRAINING,
        ["m2_adapter"],
        *DELIVERY,
    ]


def test_drops_that_land_while_the_corpus_is_assembled_are_taken_together_by_one_later_run(story: Story):
    story.lands("one", 2)
    assert story.ticks() == ["cleaned_documents[one]"]
    story.finish()
    meanwhile: list[list[str]] = []

    def land() -> None:
        story.lands("two", 2)
        story.lands("three", 2)
        meanwhile.append(story.ticks())

    story.world.during["cleaned_corpus"] = land
    assert story.ticks() == ["cleaned_corpus"]
    story.finish()
    assert meanwhile == [["cleaned_documents[three]", "cleaned_documents[two]"]]
    assert story.until_quiet() == [
        # One run makes the corpus and the labels of all three.
        ["cleaned_corpus", "labeled_pairs", "digests[one]"],
        ["digests[three]", "digests[two]"],
    ]


def test_labels_that_were_to_be_made_beside_a_corpus_that_failed_are_not_forgotten(story: Story):
    def land() -> None:
        story.execute(asked_for("cleaned_documents", partition=story.lands("two", 2)))

    story.lands("one", 2)
    story.ticks()
    story.finish()
    story.world.during["cleaned_corpus"] = land
    assert story.ticks() == ["cleaned_corpus"]
    story.finish()
    story.world.crashing = {"cleaned_corpus"}
    assert story.until_quiet() == [["cleaned_corpus", "labeled_pairs", "digests[one]"], ["labeled_pairs"]]


def test_a_drop_that_lands_during_training_is_taken_in_and_starts_no_second_training(story: Story):
    story.lands("large", 20)
    while story.ticks() != ["m1_checkpoint"]:
        story.finish()
    meanwhile: list[list[str]] = []

    def land() -> None:
        story.lands("small", 5)
        running, story.queued = story.queued, []
        meanwhile.extend(story.until_quiet())
        story.queued = running

    story.world.during["m1_checkpoint"] = land
    story.finish()
    assert meanwhile == [["cleaned_documents[small]"], ["cleaned_corpus"], ["labeled_pairs", "digests[small]"]]
    assert story.until_quiet() == [["m2_adapter"], *DELIVERY]


def test_nothing_expensive_starts_while_a_drop_is_still_on_its_way(story: Story):
    story.lands("large", 20)
    story.ticks()
    story.finish()
    assert story.ticks() == ["cleaned_corpus"]
    story.finish()
    story.queue_request(asked_for("raw_crawl", partition=story.arrives("next", 5)))
    assert story.ticks() == ["labeled_pairs", "digests[large]"]
    story.finish()
    assert story.until_quiet()[:3] == [
        ["cleaned_documents[next]"],
        ["cleaned_corpus"],
        ["corpus_snapshot", "labeled_pairs", "digests[next]"],
    ]


def test_a_backlog_of_drops_is_worked_off_a_few_at_a_time_the_newest_first(story: Story):
    story.set(automation={"max_drops_in_progress": 2})
    for name in ("a", "b", "c", "d", "e"):
        story.lands(name, 1)
    assert len(story.ticks()) == 2
    assert story.ticks() == []
    story.finish()
    assert len(story.ticks()) == 3  # two more, and the corpus, which does not wait for the rest


def test_a_run_that_somebody_else_queued_is_waited_for(story: Story):
    story.set(training={"m1": {"learning_rate": 1e-4}, "m2": {"learning_rate": 1e-4}})
    story.queue("m1_checkpoint", "m2_adapter", "quantized_model", "evaluation_report", "release")
    assert story.ticks() == []
    story.finish()
    assert story.ticks() == []


def test_an_asset_is_done_when_it_is_made_though_its_run_goes_on(story: Story):
    seen: list[dict[str, set[str | None]]] = []
    story.set(training={"m1": {"learning_rate": 1e-4}})
    story.world.crashing = {"labeled_pairs"}
    story.world.during["m2_adapter"] = lambda: seen.append(assets_in_progress(story.instance))
    story.queue("m1_checkpoint", "m2_adapter", "quantized_model")
    story.finish()
    assert seen == [{"m2_adapter": {None}, "quantized_model": {None}}]
    assert assets_in_progress(story.instance) == {}


def test_a_killed_headless_run_holds_nothing_up(story: Story):
    story.set(training={"m1": {"learning_rate": 1e-4}})
    story.queue("m1_checkpoint")
    (run,) = story.instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.NOT_STARTED]))
    host, other = socket.gethostname(), psutil.Process(os.getppid())
    for alive in (process_tag(), f"{host}:{other.pid}:{other.create_time() + 0.5}", f"{host}:{other.pid}"):
        story.instance.add_run_tags(run.run_id, {PROCESS_TAG: alive})
        assert story.ticks() == []
    story.instance.add_run_tags(run.run_id, {PROCESS_TAG: f"{host}:{NO_PROCESS}"})
    assert story.ticks() == ["m1_checkpoint"]


def test_a_process_that_got_the_id_of_a_killed_headless_run_does_not_keep_that_run_alive(story: Story):
    story.set(training={"m1": {"learning_rate": 1e-4}})
    story.queue("m1_checkpoint")
    (run,) = story.instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.NOT_STARTED]))
    other = psutil.Process(os.getppid())
    started = other.create_time() - 3600
    story.instance.add_run_tags(run.run_id, {PROCESS_TAG: f"{socket.gethostname()}:{other.pid}:{started}"})
    assert story.ticks() == ["m1_checkpoint"]
