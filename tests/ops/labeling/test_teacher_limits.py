"""Token buckets and pauses, with a clock that a test turns."""

import asyncio
from typing import Any

import pytest

from smartdevdigest_ops.labeling.endpoint import retry_after_seconds
from smartdevdigest_ops.labeling.limits import Limits, TokenBucket
from smartdevdigest_ops.settings import RequestSettings


def test_a_bucket_gives_its_burst_at_once_and_then_its_rate() -> None:
    bucket = TokenBucket(per_minute=60, burst_seconds=3, now=0.0)
    assert [bucket.take(1, now=0.0) for _ in range(5)] == [0, 0, 0, 1, 2]
    assert bucket.take(1, now=2.0) == 1  # one of the two seconds is still owed
    assert bucket.take(1, now=100.0) == 0


def test_a_pause_fills_no_more_than_the_burst() -> None:
    bucket = TokenBucket(per_minute=60, burst_seconds=2, now=0.0)
    assert bucket.take(3, now=1000.0) == 1


def test_a_request_larger_than_the_bucket_waits_its_time_and_not_for_ever() -> None:
    bucket = TokenBucket(per_minute=60, burst_seconds=1, now=0.0)
    assert bucket.take(31, now=0.0) == 30
    assert bucket.take(1, now=0.0) == 31  # nobody overtakes it


def test_what_was_not_used_is_given_back() -> None:
    bucket = TokenBucket(per_minute=60, burst_seconds=10, now=0.0)
    assert bucket.take(10, now=0.0) == 0
    bucket.take(-6, now=0.0)
    assert bucket.take(7, now=0.0) == 1


class Clock:
    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def make_limits(**settings: Any) -> tuple[Limits, Clock]:
    clock = Clock()
    return Limits(RequestSettings(**settings), clock=lambda: clock.now, sleep=clock.sleep), clock


def test_a_turn_waits_for_the_stricter_of_requests_and_tokens() -> None:
    limits, clock = make_limits(requests_per_minute=60, tokens_per_minute=6000, burst_seconds=1)
    asyncio.run(limits.turn(100))
    asyncio.run(limits.turn(500))
    assert clock.slept == [5.0]
    limits.correct(estimated=500, used=100)
    asyncio.run(limits.turn(100))
    assert clock.slept == [5.0]


def test_a_pause_that_one_request_was_told_holds_all_of_them() -> None:
    limits, clock = make_limits()
    limits.hold(7.0)
    limits.hold(3.0)
    asyncio.run(limits.turn(100))
    assert clock.slept == [7.0]


def error_with(**headers: str) -> Exception:
    import httpx

    error = Exception("busy")
    error.response = httpx.Response(429, headers={name.replace("_", "-"): value for name, value in headers.items()})  # type: ignore[attr-defined]
    return error


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry_after": "12"}, 12.0),
        ({"retry_after": "0"}, 0.0),
        ({"retry_after_ms": "250", "retry_after": "9"}, 0.25),
        ({"retry_after": "Thu, 01 Jan 1970 00:01:40 GMT"}, 40.0),
        ({"retry_after": "Thu, 01 Jan 1970 00:00:40 GMT"}, 0.0),
        ({"retry_after": "soon"}, None),
        ({}, None),
    ],
)
def test_the_pause_that_an_endpoint_asks_for_is_read_in_each_of_its_forms(
    headers: dict[str, str], seconds: float | None
) -> None:
    assert retry_after_seconds(error_with(**headers), now=60.0) == seconds
