"""What a judge has cost, and the line it must not cross."""

import asyncio
from collections import deque

from evals.judges.served.answers import Tokens
from schemas.errors import ConfigError
from schemas.stage import JudgeServerRuntime


class SpentUp(Exception):
    """The next call could cost more than what is left."""


class Meter:
    """Counts tokens and money. Costs are in the unit of the prices.

    A call reserves the most it is expected to cost before it is made, so that calls in flight
    cannot cross the line together.
    """

    def __init__(self, runtime: JudgeServerRuntime, before: Tokens) -> None:
        """`before` are the tokens of the answers that are there already.

        Raises:
            ConfigError: a cap without prices.
        """
        self._prices = (
            runtime.price_per_million_prompt_tokens,
            runtime.price_per_million_completion_tokens,
        )
        if runtime.max_cost is not None and not any(self._prices):
            raise ConfigError(
                "runtime.judge_server.max_cost: set price_per_million_prompt_tokens and "
                "price_per_million_completion_tokens beside it"
            )
        self._max_cost = runtime.max_cost
        self._reserved: list[float] = []
        self._waiting: deque[asyncio.Future[None]] = deque()
        self.tokens = before

    @property
    def spent(self) -> float:
        """What all answers have cost, earlier ones of this judge included."""
        return self.cost(self.tokens)

    def cost(self, tokens: Tokens) -> float:
        """The price of tokens."""
        read, written = self._prices
        return (tokens.prompt * read + tokens.completion * written) / 1e6

    async def reserve(self, most: Tokens) -> float:
        """Set aside what a call may cost; waits while calls in flight may yet leave enough.

        Raises:
            SpentUp: it would not fit even if no other call were under way.
        """
        cost = self.cost(most)
        while not self._fits(cost):
            if not self._reserved:
                raise SpentUp
            turn = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            await turn
        self._reserved.append(cost)
        return cost

    def _fits(self, cost: float) -> bool:
        return self._max_cost is None or self.spent + sum(self._reserved) + cost <= self._max_cost

    def settle(self, reserved: float, used: Tokens | None) -> None:
        """A call has ended: give its reservation back, and count what it used."""
        self._reserved.remove(reserved)
        if used:
            self.tokens = Tokens(
                self.tokens.prompt + used.prompt, self.tokens.completion + used.completion
            )
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
