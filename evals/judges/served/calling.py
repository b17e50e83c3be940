"""Requests to replies: remembered, paid for, tried again, and never more than the server takes."""

import asyncio
import json
from collections import Counter
from collections.abc import Mapping
from random import Random
from typing import Any

from evals.judges.served.answers import Answers, Tokens
from evals.judges.served.concurrency import AdaptiveLimit
from evals.judges.served.replies import Reply
from evals.judges.served.spending import Meter
from evals.judges.served.transport import CallFailed, Transport
from schemas.errors import BackendError
from schemas.ids import content_id, seed_from
from schemas.stage import JudgeServerRuntime

FIRST_CALLS = 4
"""Calls in flight before anything is known of the server."""

_FIRST_BACKOFF_SECONDS = 0.5
_LONGEST_BACKOFF_SECONDS = 20.0
_CHARACTERS_PER_TOKEN = 2.5  # of a costly text; only for what a call may cost at most


class Caller:
    """Answers each different request once, whatever asks for it and however often."""

    def __init__(
        self,
        judge: str,
        transport: Transport,
        answers: Answers,
        meter: Meter,
        runtime: JudgeServerRuntime,
        start: int = FIRST_CALLS,
    ) -> None:
        """`judge` is the fingerprint that answers are counted under, `start` the first limit."""
        self.counts: Counter[str] = Counter()
        self.models: set[str] = set()
        clock = asyncio.get_running_loop().time
        self.limit = AdaptiveLimit(runtime.concurrency, clock, start)
        self._judge = judge
        self._transport = transport
        self._answers = answers
        self._meter = meter
        self._runtime = runtime
        self._under_way: dict[str, asyncio.Future[Reply]] = {}
        self._uncommitted: list[tuple[str, Reply, Tokens, asyncio.Future[None]]] = []
        self._failed_in_a_row = 0

    async def ask(self, body: Mapping[str, Any]) -> Reply:
        """The reply to a request, from the disk where it was answered before.

        Raises:
            CallFailed: no answer after all attempts.
            BackendError: the server answers nobody.
            SpentUp: the call might cost more than may be spent.
        """
        text = json.dumps(body, sort_keys=True, ensure_ascii=False)
        request = content_id("answer", self._transport.base_url, text)
        if (known := self._answers.get(request)) is not None:
            self.counts["from_cache"] += 1
            return known
        if request not in self._under_way:
            self._under_way[request] = asyncio.ensure_future(self._answer(request, text, body))
        try:
            return await asyncio.shield(self._under_way[request])
        finally:
            if request in self._under_way and self._under_way[request].done():
                del self._under_way[request]

    async def stop(self) -> None:
        """Give up what is under way."""
        tasks = list(self._under_way.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _answer(self, request: str, text: str, body: Mapping[str, Any]) -> Reply:
        """Ask, pay, and write the answer down before anybody sees it."""
        limits = [v for k, v in body.items() if k.startswith("max_") and isinstance(v, int)]
        most = Tokens(int(len(text.encode()) / _CHARACTERS_PER_TOKEN), max(limits, default=16))
        reserved = await self._meter.reserve(most)
        used = None
        try:
            reply = await self._persist(request, body)
            used = Tokens(
                most.prompt if reply.prompt_tokens is None else reply.prompt_tokens,
                most.completion if reply.completion_tokens is None else reply.completion_tokens,
            )
            self.counts["without_usage"] += reply.prompt_tokens is None
            await self._commit(request, reply, used)
        except CallFailed as failure:
            self._count_failure(failure)
            raise
        finally:
            self._meter.settle(reserved, used)
        self._failed_in_a_row = 0
        self.counts["answered"] += 1
        if reply.model:
            self.models.add(reply.model)
        return reply

    async def _persist(self, request: str, body: Mapping[str, Any]) -> Reply:
        """Attempt after attempt, until an answer, a failure that stays, or the deadline."""
        clock = asyncio.get_running_loop().time
        deadline: float | None = None
        attempt = 0
        while True:
            began = await self.limit.acquire()
            deadline = deadline or began + self._runtime.deadline_seconds
            self.counts["attempts"] += 1
            try:
                reply = await self._transport.chat(body)
            except CallFailed as failure:
                attempt += 1
                self.counts[f"failed_{failure.reason}"] += 1
                if failure.overload:
                    self.limit.overloaded(began, failure.wait_seconds)
                self._refuse_long_wait(failure)
                wait = self._backoff(request, attempt, failure)
                late = clock() + wait > deadline
                if not failure.again or attempt >= self._runtime.attempts or late:
                    raise
            else:
                self.limit.succeeded()
                return reply
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
                f"{self._transport.base_url}: asks to wait {failure.wait_seconds:,.0f} s "
                f"({failure}); run the same command again then: what was answered is kept"
            ) from None

    def _count_failure(self, failure: CallFailed) -> None:
        if failure.reason in ("prompt_too_long", "no_logprobs"):
            self._failed_in_a_row = 0
            return
        self._failed_in_a_row += 1
        if self._failed_in_a_row >= self._runtime.give_up_after:
            raise BackendError(
                f"{self._transport.base_url}: {self._failed_in_a_row} calls in a row failed, the "
                f"last with {failure}; check the server, then run the same command again: what "
                "was answered is kept"
            ) from None

    async def _commit(self, request: str, reply: Reply, used: Tokens) -> None:
        """Return once the answer is on the disk; answers that come together go there together."""
        loop = asyncio.get_running_loop()
        written = loop.create_future()
        if not self._uncommitted:
            loop.call_soon(self._write_down)
        self._uncommitted.append((request, reply, used, written))
        await written

    def _write_down(self) -> None:
        waiting, self._uncommitted = self._uncommitted, []
        try:
            self._answers.put(self._judge, [(r, reply, used) for r, reply, used, _ in waiting])
        except Exception as error:
            for *_, written in waiting:
                if not written.done():
                    written.set_exception(error)
        else:
            for *_, written in waiting:
                if not written.done():
                    written.set_result(None)
