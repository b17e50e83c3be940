"""Requests to replies: remembered, paid for, tried again, and never more than the server takes."""

import asyncio
import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

from evals.judges.openai.answer_cache import Answers, Tokens
from evals.judges.openai.budget import Meter
from evals.judges.openai.reachable import refuse_nobody
from evals.judges.openai.replies import Reply
from evals.judges.openai.request import chat
from evals.models.http.retrying import Retrying
from evals.models.http.transport import Transport
from schemas.ids import content_id
from schemas.stage import JudgeServerRuntime

_PATIENCE_SECONDS = 20.0
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
        start: int,
    ) -> None:
        """`judge` is the fingerprint that answers are counted under, `start` the first limit."""
        self.calls = Retrying(transport.base_url, runtime, start)
        self.counts: Counter[str] = self.calls.counts
        self.models: set[str] = set()
        self._judge = judge
        self._transport = transport
        self._answers = answers
        self._meter = meter
        self._at_the_server: set[str] = set()
        self._seen: asyncio.Future[None] | None = None
        self._under_way: dict[str, asyncio.Future[Reply]] = {}
        self._uncommitted: list[tuple[str, Reply, Tokens, asyncio.Future[None]]] = []

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
        """Make no more calls; answers that the server is at, which are paid for, are waited for.

        What has not come by the end of the patience is given up.
        """
        self.calls.stop()
        asked = [task for r, task in self._under_way.items() if r in self._at_the_server]
        if asked:
            await asyncio.wait(asked, timeout=_PATIENCE_SECONDS)
        tasks = list(self._under_way.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _answer(self, request: str, text: str, body: Mapping[str, Any]) -> Reply:
        """Ask, pay, and write the answer down before anybody sees it."""
        limits = [v for k, v in body.items() if k.startswith("max_") and isinstance(v, int)]
        most = Tokens(int(len(text.encode()) / _CHARACTERS_PER_TOKEN), max(limits, default=16))
        await self._see_the_server()
        reserved = await self._meter.reserve(most)
        used = None
        try:
            reply = await self.calls.call(request, lambda: self._chat(request, body))
            used = Tokens(
                most.prompt if reply.prompt_tokens is None else reply.prompt_tokens,
                most.completion if reply.completion_tokens is None else reply.completion_tokens,
            )
            self.counts["without_usage"] += reply.prompt_tokens is None
            await self._commit(request, reply, used)
        finally:
            self._meter.settle(reserved, used)
        self.counts["answered"] += 1
        if reply.model:
            self.models.add(reply.model)
        return reply

    async def _chat(self, request: str, body: Mapping[str, Any]) -> Reply:
        self._at_the_server.add(request)
        try:
            return await chat(self._transport, body)
        finally:
            self._at_the_server.discard(request)

    async def _see_the_server(self) -> None:
        """Before the first call of all: is anybody there?"""
        if self._seen is None:
            self._seen = asyncio.ensure_future(refuse_nobody(self._transport))
        await asyncio.shield(self._seen)

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
