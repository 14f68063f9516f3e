"""When a request may be sent: token buckets for requests and tokens a minute, and pauses the endpoint asks for."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from smartdevdigest_ops.settings import RequestSettings


class TokenBucket:
    """Fills at `per_minute`, holds at most `burst_seconds` worth of it, and lends: who takes more than there is waits.

    Loans are given in the order they are asked for, so that nobody is overtaken, and a request that is larger than the
    bucket waits its time instead of for ever.
    """

    def __init__(self, per_minute: float, burst_seconds: float, now: float) -> None:
        self._per_second = per_minute / 60
        self._capacity = self._per_second * burst_seconds
        self._level = self._capacity
        self._filled_at = now

    def take(self, amount: float, now: float) -> float:
        """Take `amount`; returns the seconds until it may be used. A negative amount is given back."""
        self._level = min(self._capacity, self._level + (now - self._filled_at) * self._per_second)
        self._filled_at = now
        self._level -= amount
        return max(0.0, -self._level / self._per_second)


class Limits:
    """An endpoint's limits, for all requests of a run together."""

    def __init__(
        self,
        settings: RequestSettings,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._clock, self._sleep = clock, sleep
        per_minute = (settings.requests_per_minute, settings.tokens_per_minute)
        self._requests, self._tokens = (
            TokenBucket(limit, settings.burst_seconds, clock()) if limit else None for limit in per_minute
        )
        self._held_until = float("-inf")

    async def turn(self, tokens: float) -> None:
        """Return when a request of about so many tokens, its answer included, may be sent."""
        now = self._clock()
        waits = [0.0]
        if self._requests:
            waits.append(self._requests.take(1, now))
        if self._tokens:
            waits.append(self._tokens.take(tokens, now))
        ready = now + max(waits)
        while (seconds := max(ready, self._held_until) - self._clock()) > 0:
            await self._sleep(seconds)

    def correct(self, estimated: float, used: float) -> None:
        """Say what a request really used: the difference is taken, or given back."""
        if self._tokens:
            self._tokens.take(used - estimated, self._clock())

    def hold(self, seconds: float) -> None:
        """Send nothing for so long: the endpoint said so to one request, and it means the account."""
        self._held_until = max(self._held_until, self._clock() + seconds)
