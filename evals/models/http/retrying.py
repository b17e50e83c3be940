"""Calls that are tried again, and never more of them than the server takes."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from random import Random
from typing import TypeVar

from evals.models.http.concurrency import AdaptiveLimit
from evals.models.http.transport import CallFailed
from schemas.errors import BackendError, UnreachableError
from schemas.ids import seed_from
from schemas.stage import ServerRuntime

FIRST_CALLS = 4
"""Calls in flight before anything is known of the server."""

_FIRST_BACKOFF_SECONDS = 0.5
_LONGEST_BACKOFF_SECONDS = 20.0
# Failures that say nothing of the server's health.
_OF_ONE_CALL = ("prompt_too_long", "no_logprobs", "content_filter")

T = TypeVar("T")


class Retrying:
    """Attempts at one server, in one event loop; `counts` says how they went.

    `limit` is how many calls may be in flight.
    """

    def __init__(self, base_url: str, runtime: ServerRuntime, start: int = FIRST_CALLS) -> None:
        """`start` is the first limit."""
        self.counts: Counter[str] = Counter()
        self.limit = AdaptiveLimit(runtime.concurrency, asyncio.get_running_loop().time, start)
        self._base_url = base_url
        self._runtime = runtime
        self._failed_in_a_row = 0
        self._stopped = False

    def stop(self) -> None:
        """Attempt nothing more: what is being answered may still come."""
        self._stopped = True

    async def call(self, request: str, ask: Callable[[], Awaitable[T]]) -> T:
        """What `ask` gives; `request` names the call.

        Raises:
            CallFailed: no answer after all attempts.
            BackendError: the server answers nobody.
        """
        try:
            answer = await self._persist(request, ask)
        except CallFailed as failure:
            self._count_failure(failure)
            raise
        self._failed_in_a_row = 0
        return answer

    async def _persist(self, request: str, ask: Callable[[], Awaitable[T]]) -> T:
        """Attempt after attempt, until an answer, a failure that stays, or the deadline."""
        clock = asyncio.get_running_loop().time
        deadline: float | None = None
        attempt = 0
        while True:
            began = await self.limit.acquire()
            deadline = deadline or began + self._runtime.deadline_seconds
            try:
                if self._stopped:
                    raise CallFailed("stopped", "no more calls are made", again=False)
                self.counts["attempts"] += 1
                answer = await ask()
            except CallFailed as failure:
                attempt += 1
                self.counts[f"failed_{failure.reason}"] += 1
                if failure.overload:
                    self.limit.overloaded(began, failure.wait_seconds)
                self._refuse_long_wait(failure)
                wait = self._backoff(request, attempt, failure)
                late = clock() + wait > deadline
                if not failure.again or attempt >= self._runtime.attempts or late or self._stopped:
                    raise
            else:
                self.limit.succeeded()
                return answer
            finally:
                self.limit.release()
            await asyncio.sleep(wait)

    def _backoff(self, request: str, attempt: int, failure: CallFailed) -> float:
        """Seconds to wait: doubling, with a jitter that is the request's own."""
        longest = min(_LONGEST_BACKOFF_SECONDS, _FIRST_BACKOFF_SECONDS * 2 ** (attempt - 1))
        jittered = longest * Random(seed_from(attempt, request)).uniform(0.5, 1.0)
        return float(jittered + (failure.wait_seconds or 0.0))

    def _refuse_long_wait(self, failure: CallFailed) -> None:
        if (failure.wait_seconds or 0) > self._runtime.deadline_seconds:
            raise BackendError(
                f"{self._base_url}: asks to wait {failure.wait_seconds:,.0f} s "
                f"({failure}); run the same command again then: what was answered is kept"
            ) from None

    def _count_failure(self, failure: CallFailed) -> None:
        if failure.reason in _OF_ONE_CALL:
            self._failed_in_a_row = 0
            return
        self._failed_in_a_row += 1
        enough = self._runtime.give_up_after  # others in flight fail meanwhile
        if self._failed_in_a_row >= enough:
            raise UnreachableError(
                f"{self._base_url}: {enough} calls in a row failed, the last with {failure}; "
                "check the server, then run the same command again: what was answered is kept"
            ) from None
