"""Many calls to a server under way together, each made as often as it takes."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from evals.models.http.retrying import FIRST_CALLS, Retrying
from evals.models.http.transport import CallFailed, Transport
from evals.models.samplers.protocol import Sample, Unsampled
from schemas.errors import BackendError
from schemas.stage import SamplerServerRuntime

T = TypeVar("T")

# Failures that would come again: the request is at fault, not the server.
OF_THE_PROMPT = ("prompt_too_long", "content_filter")

Body = Mapping[str, Any]


def _any(reply: Any) -> None:
    pass


class Calls:
    """A server that samples, and how many calls it could take so far."""

    def __init__(
        self,
        url: str,
        key: str | None,
        runtime: SamplerServerRuntime,
        path: str,
        of_the_prompt: Sequence[str] = OF_THE_PROMPT,
    ) -> None:
        """Failures for a reason in `of_the_prompt` cost their completion and nothing else."""
        self._url = url
        self._key = key
        self._runtime = runtime
        self._path = path
        self._of_the_prompt = of_the_prompt
        self._in_flight = FIRST_CALLS

    def transport(self) -> Transport:
        """A new connection."""
        return Transport(self._url, self._key, self._runtime)

    def ask(
        self,
        bodies: Sequence[tuple[str, Body]],
        read: Callable[[int, Any], Sample],
        check: Callable[[Any], None] = _any,
    ) -> list[Sample]:
        """What is read of the replies to named bodies, in their order.

        `check` raises CallFailed for a broken reply, which is worth another attempt.

        Raises:
            BackendError: the server stops answering, or answers nobody.
        """
        return wait_for(self._all(bodies, read, check)) if bodies else []

    async def _all(
        self,
        bodies: Sequence[tuple[str, Body]],
        read: Callable[[int, Any], Sample],
        check: Callable[[Any], None],
    ) -> list[Sample]:
        transport = self.transport()
        calls = Retrying(self._url, self._runtime, self._in_flight)

        async def checked(body: Body) -> Any:
            reply = await transport.ask(self._path, body)
            check(reply)
            return reply

        async def one(number: int, name: str, body: Body) -> Sample:
            try:
                return read(number, await calls.call(name, lambda: checked(body)))
            except CallFailed as failure:
                if failure.reason in self._of_the_prompt:
                    return Unsampled(failure.reason, failure.detail)
                raise BackendError(
                    f"{self._url}: no completion after all attempts ({failure}); check the "
                    "server, then run the same command again: finished shards are kept"
                ) from None

        tasks = [
            asyncio.ensure_future(one(number, name, body))
            for number, (name, body) in enumerate(bodies)
        ]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await transport.close()
            # What the server could take in this shard, it can take in the next one.
            self._in_flight = max(1, int(calls.limit.limit))


def wait_for(work: Coroutine[Any, Any, T]) -> T:
    """Run to the end, also where an event loop is running already."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()
