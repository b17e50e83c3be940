"""Sampling by any OpenAI-compatible server, which renders the conversation itself."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any

from evals.models.contenders import ServedModel, contender_fingerprint
from evals.models.http.addresses import key_of
from evals.models.http.retrying import FIRST_CALLS, Retrying
from evals.models.http.transport import CallFailed, Transport
from evals.models.samplers.protocol import (
    FinishReason,
    Sample,
    SampledCompletion,
    SampleRequest,
    SamplingSettings,
    Unsampled,
)
from evals.models.samplers.server import wait_for
from schemas.errors import BackendError
from schemas.stage import Runtime

# Failures that would come again: the request is at fault, not the server.
_OF_THE_PROMPT = ("prompt_too_long", "content_filter")
_THOUGHTS = ("reasoning_content", "reasoning")
_FINISH_REASONS: Mapping[str, FinishReason] = {"stop": "stop", "length": "length"}


class ChatServerSampling:
    """A model behind a server. Its tokens and their probabilities are not known here."""

    name = "chat-server"

    def __init__(self, source: ServedModel, runtime: Runtime) -> None:
        """Raises ConfigError where the environment has no key under the name given."""
        self.fingerprint = contender_fingerprint(source)
        self._source = source
        self._key = key_of(source.server, source.api_key_env)
        self._runtime = runtime.sampler_server
        self._in_flight = FIRST_CALLS

    def sample(self, requests: Sequence[SampleRequest], settings: SamplingSettings) -> list[Sample]:
        """One answer per request, in their order; many are under way together.

        Raises:
            BackendError: the server stops answering, or answers nobody.
        """
        return wait_for(self._all(requests, settings)) if requests else []

    def close(self) -> None:
        """Nothing is kept open between two calls."""

    async def _all(
        self, requests: Sequence[SampleRequest], settings: SamplingSettings
    ) -> list[Sample]:
        transport = Transport(self._source.server, self._key, self._runtime)
        calls = Retrying(self._source.server, self._runtime, self._in_flight)

        async def one(request: SampleRequest) -> Sample:
            body = self._body(request, settings)
            try:
                return _completion(
                    await calls.call(
                        request.key, lambda: _answered(transport.ask("chat/completions", body))
                    )
                )
            except CallFailed as failure:
                if failure.reason in _OF_THE_PROMPT:
                    return Unsampled(failure.reason, failure.detail)
                raise BackendError(
                    f"{self._source.server}: no completion after all attempts ({failure}); check "
                    "the server, then run the same command again: finished shards are kept"
                ) from None

        tasks = [asyncio.ensure_future(one(request)) for request in requests]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await transport.close()
            self._in_flight = max(1, int(calls.limit.limit))

    def _body(self, request: SampleRequest, settings: SamplingSettings) -> Mapping[str, Any]:
        of_row = {
            name: json.loads(given)
            for name in ("tools", "chat_template_kwargs")
            if (given := getattr(request, name))
        }
        return {
            "model": self._source.model,
            "messages": list(request.prompt),
            "temperature": settings.temperature,
            "top_p": settings.top_p,
            self._source.token_limit_name: settings.max_tokens,
            "seed": request.seed,
            **of_row,
            **self._source.extra,
        }


async def _answered(reply: Any) -> Mapping[str, Any]:
    """The reply, where it is one: a broken one is worth another attempt. Raises CallFailed."""
    found = await reply
    try:
        message = found["choices"][0]["message"]
        if not isinstance(message["content"], str | None):
            raise TypeError
    except (KeyError, TypeError, IndexError):
        raise CallFailed("no_choice", "the reply holds no message") from None
    whole: Mapping[str, Any] = found
    return whole


def _completion(reply: Mapping[str, Any]) -> Sample:
    choice = reply["choices"][0]
    reason = choice.get("finish_reason")
    message = choice["message"]
    text = message["content"]
    thought = next((message[k] for k in _THOUGHTS if isinstance(message.get(k), str)), None)
    if reason == "content_filter":
        return Unsampled("content_filter", "the server declined to answer")
    if text is None and not (thought and reason == "length"):
        return Unsampled("no_text", f"the reply holds no text (finish_reason {reason})")
    usage = reply.get("usage")
    tokens = usage.get("completion_tokens") if isinstance(usage, Mapping) else None
    return SampledCompletion(
        text=text or "",
        reasoning=thought or None,
        unfinished=bool(thought) and not text,
        token_ids=[],
        sum_logps=None,
        finish_reason=_FINISH_REASONS.get(str(reason), "stop"),
        counted_tokens=tokens if isinstance(tokens, int) else None,
    )
