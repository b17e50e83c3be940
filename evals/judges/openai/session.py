"""Many comparisons at once: each asked until it has a verdict, or a reason for having none."""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from evals.judges.openai.answer_cache import Answers, Tokens
from evals.judges.openai.budget import Meter, SpentUp
from evals.judges.openai.capabilities import Ability, find_ability
from evals.judges.openai.client import Caller
from evals.judges.openai.config import JudgeServer
from evals.judges.openai.read_reply import cut_in_thought, read_verdict, thinks, why_unread
from evals.judges.openai.replies import Reply
from evals.judges.verdicts.readings import Reading, Reads
from evals.judges.verdicts.thinking import without_thinking
from evals.models.http.transport import CallFailed, Transport
from schemas.errors import BackendError, UnreachableError
from schemas.labels import Answer, Comparison, Message, Unscored
from schemas.stage import JudgeServerRuntime

Item = tuple[int, Comparison]
Finished = list[tuple[int, Answer]]


@dataclass(frozen=True)
class Question:
    """What a judge asks: how a comparison is shown, and how the reply is read.

    `reminder` is said where a reply states no verdict. `by_logprobs` is false for a judge that
    gives its reasons first. `thinking_tokens` is the room for thoughts, 0 where `max_tokens` is all
    that was allowed. `reading` says how.
    """

    server: JudgeServer
    chat: Callable[[Comparison], list[Message]]
    reminder: str
    min_label_mass: float
    max_tokens: int
    by_logprobs: bool
    thinking_tokens: int = 0
    reading: Reads = field(default_factory=Reading)


class Session:
    """An open connection and an open file of answers; lives in one event loop."""

    def __init__(
        self,
        question: Question,
        fingerprint: str,
        key: str | None,
        cache: Path,
        runtime: JudgeServerRuntime,
        start: int,
    ) -> None:
        """`start` is how many calls may be in flight at first.

        Raises:
            ConfigError: the settings or the folder of answers cannot work.
        """
        self._question = question
        self._fingerprint = fingerprint
        self._runtime = runtime
        self._transport = Transport(question.server.base_url, key, runtime)
        self._answers = Answers(cache)
        try:
            self._meter = Meter(runtime, self._answers.tokens_of(fingerprint))
        except BaseException:
            self._answers.close()
            raise
        self._caller = Caller(
            fingerprint, self._transport, self._answers, self._meter, runtime, start
        )
        self._ability = Ability(False)
        self._tasks: dict[asyncio.Task[Answer], int] = {}
        self._stopped: Exception | None = None

    async def start(self) -> None:
        """Find out what the server can do, unless that is known."""
        known = self._answers.ability(self._fingerprint)
        if known is not None:
            self._ability = Ability.from_json(known)
        elif self._question.by_logprobs:
            self._learn(await find_ability(self._transport, self._question.server))

    async def close(self) -> None:
        """Give up what waits for its turn, take in what is being answered, close everything."""
        await self._caller.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._transport.close()
        self._answers.close()

    async def some(self, source: Iterator[Item]) -> Finished:
        """Verdicts that have come since, at least one, by the item's number; none at the end.

        Takes from `source` only what may be under way.

        Raises:
            BackendError: the server answers nobody, or the money is spent. What was under way has
                been waited for where that is worth it.
        """
        finished: Finished = []
        while not finished:
            self._fill(source)
            if not self._tasks:
                break
            done, _ = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in sorted(done, key=self._tasks.__getitem__):
                finished += self._outcome(self._tasks.pop(task), task)
        if not finished and self._stopped:
            raise self._stopped
        return finished

    def _outcome(self, number: int, task: asyncio.Task[Answer]) -> Finished:
        error = task.exception()
        if error is None:
            return [(number, task.result())]
        if not isinstance(error, SpentUp):
            raise error
        self._stopped = self._spent_up()
        return []

    def usage(self) -> dict[str, float]:
        """Running numbers: tokens and money of all answers, and how the calls go."""
        return {
            "prompt_tokens": self._meter.tokens.prompt,
            "completion_tokens": self._meter.tokens.completion,
            "cost": self._meter.spent,
            "answered": self._caller.counts["answered"],
            "from_cache": self._caller.counts["from_cache"],
            "attempts": self._caller.counts["attempts"],
            "in_flight_limit": int(self._caller.calls.limit.limit),
        }

    def warnings(self) -> list[str]:
        """What may spoil the result."""
        found = []
        if self._answers.damaged:
            found.append(
                f"the file of answers could not be read and is now {self._answers.damaged}; "
                "what it held is asked again"
            )
        if len(self._caller.models) > 1:
            names = ", ".join(sorted(self._caller.models))
            found.append(f"the server answered as several models: {names}; name a dated one")
        if self._caller.counts["without_usage"] and self._runtime.max_cost is not None:
            found.append("the server does not count tokens; the cost is an upper estimate")
        return found

    def _fill(self, source: Iterator[Item]) -> None:
        window = 2 * self._runtime.concurrency
        while not self._stopped and len(self._tasks) < window:
            item = next(source, None)
            if item is None:
                return
            self._tasks[asyncio.ensure_future(self._verdict(item[1]))] = item[0]

    async def _verdict(self, comparison: Comparison) -> Answer:
        """Ask until a reply states a verdict, or a rating; tokens of all replies are counted."""
        messages: list[Message] = self._question.chat(comparison)
        replies: list[Reply] = []
        try:
            while len(replies) < self._question.server.max_asks:
                reply = await self._ask(messages)
                replies.append(reply)
                verdict = read_verdict(
                    reply,
                    self._question.min_label_mass,
                    self._ability.token_ids,
                    self._question.by_logprobs and self._ability.logprobs,
                    self._question.reading,
                )
                if verdict is not None:
                    return _with_tokens(verdict, replies)
                messages = [
                    *messages,
                    {"role": "assistant", "content": without_thinking(reply.content) or "..."},
                    {"role": "user", "content": self._question.reminder},
                ]
        except CallFailed as failure:
            return _with_tokens(Unscored(failure.reason, failure.detail), replies)
        last = replies[-1]
        reason, detail = why_unread(last, self._question.reading)
        unread = Unscored(reason, f"{len(replies)} replies, {detail}", raw=last.content)
        return _with_tokens(unread, replies)

    async def _ask(self, messages: list[Message]) -> Reply:
        """A reply; what the server cannot do, or needs, is found out on the way and remembered."""
        asked_with = self._ability
        try:
            reply = await self._caller.ask(self._body(messages))
        except (CallFailed, BackendError) as failure:
            if not self._may_do_without_logprobs(failure, asked_with):
                raise
            without = replace(asked_with, logprobs=False, token_ids=None)
            reply = await self._caller.ask(self._body(messages, without))
            self._learn(without)
        # Where one token was asked for, an empty text is that token and no thought.
        cut = cut_in_thought(reply) and (asked_with.token_ids is None or thinks(reply))
        if cut and self._question.thinking_tokens and not self._ability.thinks:
            self._learn(Ability(False, thinks=True))
        if cut and self._ability != asked_with and self._ability.thinks:
            with suppress(CallFailed):  # there is no room for thoughts: the cut reply stands
                reply = await self._caller.ask(self._body(messages))
        return reply

    def _may_do_without_logprobs(self, failure: Exception, asked_with: Ability) -> bool:
        """Whether a refusal may be one of log-probabilities, which nobody insists on."""
        if self._question.server.logprobs != "auto" or not asked_with.logprobs:
            return False
        if isinstance(failure, CallFailed):
            return failure.reason in ("no_logprobs", "bad_request")
        return isinstance(failure, UnreachableError) and failure.status in (403, 405)

    def _learn(self, ability: Ability) -> None:
        self._ability = ability
        self._answers.remember_ability(self._fingerprint, ability.to_json())

    def _body(self, messages: list[Message], ability: Ability | None = None) -> Mapping[str, Any]:
        server, ability = self._question.server, ability or self._ability
        room = self._question.thinking_tokens if ability.thinks else 0
        seed = {} if server.seed is None else {"seed": server.seed}
        return {
            "model": server.model,
            "messages": messages,
            "temperature": server.temperature,
            **seed,
            **ability.fields(server, self._question.max_tokens + room),
            **server.extra,
        }

    def _spent_up(self) -> BackendError:
        return BackendError(
            f"judge: {self._meter.spent:.6g} spent, and the next call could exceed "
            f"runtime.judge_server.max_cost = {self._runtime.max_cost:g}; all answers are kept: "
            "raise it and run the same command again to go on"
        )


def _with_tokens(verdict: Answer, replies: list[Reply]) -> Answer:
    """The tokens of all replies together; None where the server has counted none."""
    total = Tokens(
        sum(r.prompt_tokens or 0 for r in replies), sum(r.completion_tokens or 0 for r in replies)
    )
    if not any(r.prompt_tokens for r in replies):
        return verdict
    return replace(verdict, prompt_tokens=total.prompt, completion_tokens=total.completion)
