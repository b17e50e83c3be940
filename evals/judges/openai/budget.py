"""What a judge has cost, and the line it must not cross."""

import asyncio
from collections import deque

from evals.judges.openai.answer_cache import Tokens
from schemas.errors import ConfigError
from schemas.stage import JudgeServerRuntime


class SpentUp(Exception):
    """The next call could cost more than what is left."""


def cost(tokens: Tokens, runtime: JudgeServerRuntime) -> float:
    """The price of tokens, in the unit of the prices."""
    read = tokens.prompt * runtime.price_per_million_prompt_tokens
    return (read + tokens.completion * runtime.price_per_million_completion_tokens) / 1e6


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
        if runtime.max_cost is not None and cost(Tokens(1, 1), runtime) == 0:
            raise ConfigError(
                "runtime.judge_server.max_cost: set price_per_million_prompt_tokens and "
                "price_per_million_completion_tokens beside it"
            )
        self._runtime = runtime
        self._reserved: list[float] = []
        self._waiting: deque[asyncio.Future[None]] = deque()
        self.tokens = before

    @property
    def spent(self) -> float:
        """What all answers have cost, earlier ones of this judge included."""
        return cost(self.tokens, self._runtime)

    async def reserve(self, most: Tokens) -> float:
        """Set aside what a call may cost; waits while calls in flight may yet leave enough.

        Raises:
            SpentUp: it would not fit even if no other call were under way.
        """
        price = cost(most, self._runtime)
        while not self._fits(price):
            if not self._reserved:
                raise SpentUp
            turn = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            await turn
        self._reserved.append(price)
        return price

    def _fits(self, price: float) -> bool:
        cap = self._runtime.max_cost
        return cap is None or self.spent + sum(self._reserved) + price <= cap

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
