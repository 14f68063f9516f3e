"""Judges behind a real HTTP server on the loopback interface: honest, biased, without logprobs, failing."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from judge_server import JudgeEndpoint, takes_the_first

from smartdevdigest_ops.evaluation.gold import TestDocument
from smartdevdigest_ops.evaluation.judge.judging import NOT_CONFIGURED, Judged, choose_judged
from smartdevdigest_ops.evaluation.systems import CANDIDATE, LEAD3, UNTUNED_BASE, Answer

RunJudge = Callable[..., Judged]
DIMENSIONS = ("faithfulness", "coverage", "clarity")


def test_an_honest_judge_is_found_reliable_and_ranks_the_systems(
    judge: RunJudge, judge_endpoint: JudgeEndpoint
) -> None:
    lines: list[str] = []
    judged = judge(lines=lines)
    section = judged.section
    known = section["known_answers"]
    assert set(known["kinds"]) == {"foreign", "altered_numbers", "truncated"}
    assert known["kinds"]["foreign"]["total"]["mean"] == 1.0
    assert set(known["kinds"]["altered_numbers"]["tests"]) == {"faithfulness", "preference"}
    assert known["total"]["low"] <= known["total"]["mean"] <= known["total"]["high"]
    assert known["total"]["mean"] > 0.9
    assert section["reliable"] is True
    assert known["position_bias"]["mean"] < 0.1
    for language in ("en", "ko"):
        by_system = section["scores"][language]
        assert list(by_system) == [CANDIDATE, LEAD3, UNTUNED_BASE]
        coverage = [by_system[system]["coverage"]["mean"] for system in (CANDIDATE, LEAD3, UNTUNED_BASE)]
        assert coverage == sorted(coverage, reverse=True)
        for by_dimension in by_system.values():
            for interval in by_dimension.values():
                assert 1 <= interval["low"] <= interval["mean"] <= interval["high"] <= 5
                assert interval["n"] == 4
        wins = section["wins"][language][UNTUNED_BASE]
        assert wins["wins"] + wins["ties"] + wins["losses"] == 4
        assert wins["win_rate"]["mean"] == pytest.approx((wins["wins"] + wins["ties"] / 2) / 4, abs=1e-6)
    assert section["readings"] == {"by_probabilities": len(judge_endpoint.bodies), "by_digits": 0, "unanswered": 0}
    assert judged.metrics["judge_accuracy"] == known["total"]["mean"]
    assert judged.metrics["judged_coverage_ko"] == section["scores"]["ko"][CANDIDATE]["coverage"]["mean"]
    assert any("answers are cached" in line for line in lines)
    assert any("is reliable: it was right in" in line for line in lines)


def test_a_score_is_the_mean_of_the_digits_by_their_probabilities(
    judge: RunJudge, judge_endpoint: JudgeEndpoint, few_documents: list[TestDocument]
) -> None:
    judge_endpoint.rule = lambda system, data: 3.25 if "summary" in data else 1.25
    answers = {CANDIDATE: [Answer(CANDIDATE, d.url, {"summary": "s"}, True) for d in few_documents]}
    section = judge(answers=answers).section
    assert section["scores"]["en"][CANDIDATE]["clarity"]["mean"] == 3.25
    assert judge_endpoint.bodies[0]["logprobs"] is True
    assert judge_endpoint.bodies[0]["top_logprobs"] == 20


def test_what_was_judged_is_kept_and_a_second_report_pays_nothing_and_is_the_same(
    judge: RunJudge, judge_endpoint: JudgeEndpoint
) -> None:
    price = {"price": {"input_per_million": 1.0, "output_per_million": 10.0}}
    first = judge(openai=price)
    num_requests = len(judge_endpoint.bodies)
    again = judge(openai=price, making="another")
    assert len(judge_endpoint.bodies) == num_requests
    assert again.section == first.section
    assert first.section["usage"] == {
        "replies": num_requests, "replies_refused": 0, "prompt_tokens": 1000 * num_requests,
        "answer_tokens": num_requests, "cost": round(num_requests * 1010 / 1e6, 6), "currency": "USD",
    }  # fmt: skip
    assert first.metrics["judge_cost"] == pytest.approx(num_requests * 1010 / 1e6)
    assert again.metrics["judge_cost"] == 0
    assert again.metrics["judge_replies"] == 0


def test_an_endpoint_that_goes_away_halfway_is_asked_later_for_what_is_left(
    judge: RunJudge, judge_endpoint: JudgeEndpoint
) -> None:
    fewer = {"pairwise": False, "dimensions": ["faithfulness"]}
    whole = judge(openai={"model": "another"}, **fewer)
    num_requests = len(judge_endpoint.bodies)
    judge_endpoint.bodies.clear()
    judge_endpoint.goes_away_after = num_requests // 2
    one_by_one = {"requests": {"max_in_flight": 1, "max_retries": 0}}
    broken = judge(openai=one_by_one, **fewer)
    assert "going down" in broken.section["not_run"]
    assert broken.metrics["judge_replies"] == num_requests // 2
    judge_endpoint.goes_away_after = None
    judge_endpoint.bodies.clear()
    resumed = judge(openai=one_by_one, **fewer)
    assert len(judge_endpoint.bodies) == num_requests - num_requests // 2
    assert resumed.section["scores"] == whole.section["scores"]
    assert resumed.metrics["judge_replies"] == num_requests


def test_a_judge_that_takes_the_first_and_praises_everything_is_unreliable_and_has_no_figure_in_the_metrics(
    judge: RunJudge, judge_endpoint: JudgeEndpoint
) -> None:
    judge_endpoint.rule = takes_the_first
    lines: list[str] = []
    judged = judge(lines=lines)
    known = judged.section["known_answers"]
    assert judged.section["reliable"] is False
    assert known["total"]["mean"] == 0.0
    assert known["position_bias"]["mean"] == 1.0
    for by_other in judged.section["wins"].values():
        for wins in by_other.values():
            assert wins["win_rate"]["mean"] == 0.5
            assert wins["wins"] == wins["losses"] == 0
    assert judged.metrics["judge_accuracy"] == 0.0
    assert not any(name.startswith("judged_") for name in judged.metrics)
    assert any("is unreliable: it was right in 0.000" in line for line in lines)


@pytest.mark.parametrize("way", ["refused", "ignored"])
def test_without_logprobs_each_question_is_asked_repeatedly_and_the_digits_are_averaged(
    judge: RunJudge, judge_endpoint: JudgeEndpoint, few_documents: list[TestDocument], way: str
) -> None:
    judge_endpoint.most_logprobs = 0 if way == "refused" else 20
    judge_endpoint.ignores_logprobs = way == "ignored"
    judge_endpoint.rule = lambda system, data: 3.5 if "summary" in data else 1.5
    answers = {CANDIDATE: [Answer(CANDIDATE, d.url, {"summary": "s"}, True) for d in few_documents]}
    limits = {"requests": {"max_in_flight": 1}}
    section = judge(answers=answers, pairwise=False, repeats=4, openai=limits, dimensions=["faithfulness"]).section
    asked = section["readings"]["by_digits"]
    assert section["readings"] == {"by_probabilities": 0, "by_digits": asked, "unanswered": 0}
    refused = [body for body in judge_endpoint.bodies if "logprobs" in body] if way == "refused" else []
    assert [body["top_logprobs"] for body in refused] == ([20, 5] if way == "refused" else [])
    assert len(judge_endpoint.bodies) - len(refused) == 4 * asked
    assert {body["seed"] for body in judge_endpoint.bodies} == {0, 1, 2, 3}
    assert all(body["temperature"] == 1.0 for body in judge_endpoint.bodies)
    mean = section["scores"]["en"][CANDIDATE]["faithfulness"]["mean"]
    assert 3 < mean < 4
    assert mean * 4 * 4 == pytest.approx(round(mean * 4 * 4), abs=1e-3)  # a mean of 16 digits


def test_an_endpoint_that_takes_five_alternatives_is_asked_for_five(
    judge: RunJudge, judge_endpoint: JudgeEndpoint
) -> None:
    judge_endpoint.most_logprobs = 5
    section = judge(pairwise=False, openai={"requests": {"max_in_flight": 1}}).section
    assert [body["top_logprobs"] for body in judge_endpoint.bodies[:3]] == [20, 5, 5]
    assert section["readings"]["by_digits"] == 0


def test_an_endpoint_that_fails_costs_the_judgement_and_the_report_says_why(
    judge: RunJudge, judge_endpoint: JudgeEndpoint
) -> None:
    judge_endpoint.error = (500, "out of order")
    lines: list[str] = []
    judged = judge(lines=lines)
    assert set(judged.section) == {"not_run"}
    assert "out of order" in judged.section["not_run"]
    assert "evaluation.judge.openai.base_url" in judged.section["not_run"]
    assert any(line.startswith("the judge is left out:") for line in lines)
    assert judged.metrics["judge_replies"] == 0


def test_a_missing_key_and_a_budget_that_is_too_small_are_named_and_nothing_is_sent(
    judge: RunJudge, judge_endpoint: JudgeEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    price = {"input_per_million": 1e6, "output_per_million": 0.0, "max_cost": 2.0}
    assert "evaluation.judge.openai.price.max_cost is 2.00" in judge(openai={"price": price}).section["not_run"]
    monkeypatch.delenv("JUDGE_KEY")
    assert "environment variable JUDGE_KEY" in judge().section["not_run"]
    assert judge_endpoint.bodies == []


def test_an_answer_that_is_no_digit_is_held_up_once_and_a_question_without_one_is_counted(
    judge: RunJudge, judge_endpoint: JudgeEndpoint, few_documents: list[TestDocument]
) -> None:
    answers = {CANDIDATE: [Answer(CANDIDATE, d.url, {"summary": "s"}, True) for d in few_documents]}
    judge_endpoint.replies = ["I would say that it is rather good.", "7", "4/5"]
    options = {"dimensions": ["faithfulness"], "pairwise": False, "openai": {"requests": {"max_in_flight": 1}}}
    section = judge(answers=answers, **options).section
    first, second, third = (body["messages"] for body in judge_endpoint.bodies[:3])
    assert [message["role"] for message in second] == ["system", "user", "assistant", "user"]
    assert second[2]["content"] == "I would say that it is rather good."
    assert second[:2] == first == third
    assert section["readings"]["unanswered"] == 1
    assert section["usage"]["replies_refused"] == 3


def test_who_has_no_digest_is_rated_worst_and_loses_unasked(
    judge: RunJudge, judge_endpoint: JudgeEndpoint, few_documents: list[TestDocument]
) -> None:
    judge_endpoint.rule = lambda system, data: 4.0 if "summary" in data else 1.0
    said = {"summary": "It says something."}
    answers = {
        CANDIDATE: [Answer(CANDIDATE, d.url, None, False) for d in few_documents],
        LEAD3: [Answer(LEAD3, d.url, said, True) for d in few_documents],
        UNTUNED_BASE: [Answer(UNTUNED_BASE, d.url, None, False) for d in few_documents],
    }
    section = judge(answers=answers).section
    assert section["scores"]["ko"][CANDIDATE] == {
        name: {"mean": 1.0, "low": 1.0, "high": 1.0, "n": 4} for name in DIMENSIONS
    }
    assert section["scores"]["ko"][LEAD3]["clarity"]["mean"] == 4.0
    assert section["wins"]["ko"][LEAD3]["losses"] == 4
    assert section["wins"]["ko"][UNTUNED_BASE]["ties"] == 4
    assert not any("It says something." in str(body) and "summary_1" in str(body) for body in judge_endpoint.bodies)


def test_without_a_judge_or_gold_summaries_there_is_a_reason_and_no_number(
    judge: RunJudge, judge_endpoint: JudgeEndpoint, few_documents: list[TestDocument]
) -> None:
    assert judge(teacher="none") == Judged(NOT_CONFIGURED)
    bare = [replace(document, gold=replace(document.gold, summary=None)) for document in few_documents]
    assert judge(bare).section == {"not_run": "no test document has a gold summary"}
    assert judge_endpoint.bodies == []


def test_one_origin_of_gold_is_judged_half_of_it_per_language(gold_documents: list[TestDocument]) -> None:
    human = [
        replace(document, gold=replace(document.gold, origin="human")) if number < 3 else document
        for number, document in enumerate(gold_documents)
    ]
    chosen = choose_judged(human, 6)
    assert [human[index].language for index in chosen] == ["en"] * 3 + ["ko"] * 3
    assert all(human[index].gold.origin == "teacher" for index in chosen)
    assert chosen == choose_judged(human, 6)
