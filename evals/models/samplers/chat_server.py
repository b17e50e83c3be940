"""Sampling by any OpenAI-compatible server, which renders the conversation itself."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from evals.models.contenders import ServedModel, contender_fingerprint
from evals.models.http.addresses import key_of
from evals.models.http.transport import CallFailed
from evals.models.samplers.calls import Calls
from evals.models.samplers.config import SamplingSettings
from evals.models.samplers.protocol import (
    FinishReason,
    Sample,
    SampledCompletion,
    SampleRequest,
    Unsampled,
)
from schemas.stage import Runtime

_THOUGHTS = ("reasoning_content", "reasoning")
_FINISH_REASONS: Mapping[str, FinishReason] = {"stop": "stop", "length": "length"}


class ChatServerSampling:
    """A model behind a server. Its tokens and their probabilities are not known here."""

    name = "chat-server"

    def __init__(self, source: ServedModel, runtime: Runtime) -> None:
        """Raises ConfigError where the environment has no key under the name given."""
        self.fingerprint = contender_fingerprint(source)
        self._source = source
        key = key_of(source.server, source.api_key_env)
        self._calls = Calls(source.server, key, runtime.sampler_server, "chat/completions")

    def sample(self, requests: Sequence[SampleRequest], settings: SamplingSettings) -> list[Sample]:
        """One answer per request, in their order; many are under way together.

        Raises:
            BackendError: the server stops answering, or answers nobody.
        """
        bodies = [(request.key, self._body(request, settings)) for request in requests]
        return self._calls.ask(bodies, lambda _, reply: _completion(reply), _refuse_broken)

    def close(self) -> None:
        """Nothing is kept open between two calls."""

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


def _refuse_broken(reply: Any) -> None:
    """Raises CallFailed where a reply is none."""
    try:
        if not isinstance(reply["choices"][0]["message"]["content"], str | None):
            raise TypeError
    except (KeyError, TypeError, IndexError):
        raise CallFailed("no_choice", "the reply holds no message") from None


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
