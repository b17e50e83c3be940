"""A judge behind a server: comparisons in, verdicts out as they come."""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from evals.judges.openai.answer_cache import Tokens
from evals.judges.openai.budget import cost
from evals.judges.openai.session import Question, Session
from evals.models.http.interrupts import run
from evals.models.http.retrying import FIRST_CALLS
from schemas.labels import Answer, Comparison, Rating, Verdict
from schemas.stage import JudgeServerRuntime

Referenced = Callable[[Comparison], bool | None]
"""Whether a reference answer is shown with a comparison; None where none ever is."""


class ServedJudge:
    """Asks a server about comparisons. See `evals.judges.interface.StreamingJudge`."""

    has_a_layout = True

    def __init__(
        self,
        name: str,
        fingerprint: str,
        question: Question,
        key: str | None,
        cache: Path,
        runtime: JudgeServerRuntime,
        with_reference: Referenced,
    ) -> None:
        """`cache` is the folder of answers; nothing is opened before something is asked."""
        self.name = name
        self.with_reference = with_reference
        self.fingerprint = fingerprint
        self.usage: Mapping[str, float] = {}
        self.warnings: Sequence[str] = ()
        self._runtime = runtime
        self._session = lambda: Session(
            question,
            fingerprint,
            key,
            cache,
            runtime,
            # What the server could take in the last stream, it can take in this one.
            int(self.usage.get("in_flight_limit", FIRST_CALLS)),
        )

    def judge(self, comparisons: Sequence[Comparison]) -> list[Verdict]:
        """One verdict per comparison, in order. Raises what `stream` raises."""
        return [_verdict(answer) for answer in self.answers(comparisons)]

    def answers(self, comparisons: Sequence[Comparison]) -> list[Answer]:
        """What is said of each, in order: verdicts, or ratings. Raises what `stream` raises."""
        if _inside_an_event_loop():  # which cannot run another
            with ThreadPoolExecutor(1) as thread:
                found = thread.submit(lambda: dict(self.stream_answers(comparisons))).result()
        else:
            found = dict(self.stream_answers(comparisons))
        return [found[number] for number in range(len(comparisons))]

    def stream(self, comparisons: Iterable[Comparison]) -> Iterator[tuple[int, Verdict]]:
        """Verdicts as they come, each with its comparison's number. See `stream_answers`."""
        for number, answer in self.stream_answers(comparisons):
            yield number, _verdict(answer)

    def stream_answers(self, comparisons: Iterable[Comparison]) -> Iterator[tuple[int, Answer]]:
        """Answers as they come, each with its comparison's number.

        Comparisons are taken as they are needed. Every answer is on the disk before it is
        out.

        Raises:
            ConfigError: the settings, or the folder of answers, cannot work.
            BackendError: the server answers nobody, or `max_cost` is reached.
        """
        with asyncio.Runner() as runner:
            session = run(runner, _opened(self._session))
            source = enumerate(comparisons)
            try:
                while finished := run(runner, session.some(source)):
                    self._note(session)
                    yield from finished
            finally:
                self._note(session)
                run(runner, session.close())

    def cost(self, prompt_tokens: int, completion_tokens: int) -> float:
        """The price of tokens, in the unit of the prices."""
        return cost(Tokens(prompt_tokens, completion_tokens), self._runtime)

    def _note(self, session: Session) -> None:
        self.usage, self.warnings = session.usage(), session.warnings()


def _verdict(answer: Answer) -> Verdict:
    if isinstance(answer, Rating):
        raise TypeError("a rating in place of a verdict")
    return answer


def _inside_an_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


async def _opened(make: Callable[[], Session]) -> Session:
    """A session that has started, made inside its event loop."""
    session = make()
    try:
        await session.start()
    except BaseException:
        await session.close()
        raise
    return session
