"""Settings of the judge that do not go together, and which of them make a report anew."""

from typing import Any, get_args

import pytest

from smartdevdigest_ops.evaluation.systems import CANDIDATE, SYSTEM_NAMES
from smartdevdigest_ops.settings import JudgeSettings, SettingsError, load_settings
from smartdevdigest_ops.stage import get_stage


@pytest.mark.parametrize(
    ("judge", "said"),
    [
        ({"teacher": "local"}, "needs local.model"),
        ({"local": {"model": "hf:org/name"}}, "needs a revision"),
        ({"dimensions": ["clarity"], "pairwise": False}, "no pair with a known answer tests what is asked"),
        ({"dimensions": ["coverage", "coverage"]}, "dimensions names one twice"),
        ({"against": ["lead3", "lead3"]}, "against names one twice"),
        ({"against": ["candidate"]}, "evaluation.judge.against.0"),
        ({"dimensions": ["beauty"]}, "evaluation.judge.dimensions.0"),
        ({"teacher": "openai", "temperature": 0}, "the same answer 5 times"),
        ({"openai": {"price": {"max_cost": 1}}}, "only be held to with input_per_million"),
        ({"openai": {"base_url": "https://me:secret@host/v1"}}, "holds a user, a password or a query"),
        ({"openai": {"batch": {"enabled": True}}}, "unknown key"),
    ],
)
def test_what_does_not_go_together_is_refused_with_what_to_do(judge: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError) as refused:
        load_settings("ci", overrides={"evaluation": {"judge": judge}})
    assert said in str(refused.value)
    assert "secret" not in str(refused.value)


def test_only_systems_that_a_report_has_can_be_named() -> None:
    names = get_args(get_args(JudgeSettings.model_fields["against"].annotation)[0])
    assert set(names) < set(SYSTEM_NAMES) - {CANDIDATE}


@pytest.mark.parametrize(
    ("change", "is_tracked"),
    [
        ({"min_accuracy": 0.9}, True),
        ({"refusal_round": 1}, True),
        ({"openai": {"model": "another"}}, True),
        ({"openai": {"requests": {"max_in_flight": 1}}}, False),
        ({"openai": {"price": {"input_per_million": 1, "output_per_million": 1}}}, False),
        ({"local": {"batch_size": 1}}, False),
    ],
)
def test_what_changes_no_judgement_makes_no_report_anew(change: dict[str, Any], is_tracked: bool) -> None:
    stage = get_stage("evaluation_report")
    before, after = (
        stage.tracked_settings(load_settings("ci", overrides={"evaluation": {"judge": judge}}))
        for judge in ({}, change)
    )
    assert (before != after) == is_tracked


def test_an_answer_has_room_for_a_digit_however_the_requests_are_set() -> None:
    settings = load_settings("ci", overrides={"evaluation": {"judge": {"openai": {"requests": {"max_in_flight": 1}}}}})
    assert settings.evaluation.judge.openai.requests.max_answer_tokens == 64
