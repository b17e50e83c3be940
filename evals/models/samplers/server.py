"""Sampling by a running vLLM server, over HTTP."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evals.models.chat.checks import sound_renderer
from evals.models.checkpoints import ModelSource, load_tokenizer, model_fingerprint
from evals.models.http.addresses import key_of
from evals.models.http.transport import CallFailed
from evals.models.rendering import ChatRenderer
from evals.models.samplers.calls import OF_THE_PROMPT, Calls, wait_for
from evals.models.samplers.config import SamplingSettings, ServerSampler
from evals.models.samplers.prompts import PromptTokens, completion_of, tokenize_requests
from evals.models.samplers.protocol import Sample, SampleRequest, Unsampled
from schemas.errors import BackendError, ConfigError
from schemas.stage import Runtime, SamplerServerRuntime

_ROUNDING = 1e-3

# What the model's own generation settings on the server could otherwise change.
_AS_THE_MODEL_IS = {
    "top_k": 0,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
}


def open_server(config: ServerSampler, model: ModelSource, runtime: Runtime) -> "ServerSampling":
    """See `ServerSampler.open`."""
    renderer = sound_renderer(load_tokenizer(model))
    key = key_of(config.base_url, config.api_key_env)
    return ServerSampling(config, renderer, model_fingerprint(model), key, runtime.sampler_server)


class ServerSampling:
    """A server that has the model, and the model's renderer."""

    name = "server"

    def __init__(
        self,
        config: ServerSampler,
        renderer: ChatRenderer,
        fingerprint: str,
        key: str | None,
        runtime: SamplerServerRuntime,
    ) -> None:
        """Asks the server which models it has. Raises as `ServerSampler.open`."""
        self.fingerprint = fingerprint
        self._url = config.base_url
        self._renderer = renderer
        refused = (*OF_THE_PROMPT, "bad_request")
        self._calls = Calls(self._url, key, runtime, "completions", refused)
        served = _the_model(config, wait_for(self._models()), fingerprint)
        self._model = served["id"]
        self._context: int | None = served.get("max_model_len")

    def sample(self, requests: Sequence[SampleRequest], settings: SamplingSettings) -> list[Sample]:
        """One answer per request, in their order; many are under way together.

        Raises:
            BackendError: the server stops answering, or does not say which tokens it wrote.
        """
        fitting, refused = tokenize_requests(
            self._renderer, requests, self._context, settings.max_tokens
        )
        answers: dict[int, Sample] = dict(refused)
        found = self._calls.ask(
            [(f"{p.index}/{p.seed}", self._body(p, settings)) for p in fitting],
            lambda number, reply: self._completion(reply, settings.max_tokens, fitting[number]),
        )
        answers |= {prompt.index: one for prompt, one in zip(fitting, found, strict=True)}
        return [answers[index] for index in range(len(requests))]

    def close(self) -> None:
        """Nothing is kept open between two calls."""

    async def _models(self) -> Any:
        transport = self._calls.transport()
        try:
            return await transport.look("models")
        except CallFailed as failure:
            raise BackendError(
                f"{self._url}: does not answer ({failure}); start the server, or correct "
                "sampler.base_url"
            ) from None
        finally:
            await transport.close()

    def _body(self, prompt: PromptTokens, settings: SamplingSettings) -> Mapping[str, Any]:
        return {
            "model": self._model,
            "prompt": prompt.ids,
            "temperature": settings.temperature,
            "top_p": settings.top_p,
            "max_tokens": settings.max_tokens,
            "seed": prompt.seed,
            "stop_token_ids": self._renderer.end_ids,
            "logprobs": 0,
            "return_token_ids": True,
            **_AS_THE_MODEL_IS,
        }

    def _completion(self, reply: Any, most: int, prompt: PromptTokens) -> Sample:
        """Ids and log-probabilities, which vLLM takes before temperature and top_p.

        What no model can have written within `most` tokens is no completion.
        """
        try:
            choice = reply["choices"][0]
            ids = [int(token) for token in choice["token_ids"]]
            logps = [float(logp) for logp in choice["logprobs"]["token_logprobs"]]
        except (KeyError, TypeError, IndexError, ValueError, OverflowError):
            ids, logps = [], [0.0]
        if len(ids) != len(logps):
            raise BackendError(
                f"{self._url}: does not say which tokens it wrote and how probable they were "
                "(return_token_ids and logprobs, as vLLM has them); sample with kind vllm or "
                "transformers"
            )
        wrong = _impossible(ids, logps, most, len(self._renderer.tokenizer))
        if wrong:
            return Unsampled("malformed_reply", wrong)
        return completion_of(self._renderer, ids, logps, prompt)


def _impossible(
    ids: Sequence[int], logps: Sequence[float], most: int, vocabulary: int
) -> str | None:
    """What is wrong with a server's numbers; None where they can be."""
    if len(ids) > most:
        return f"{len(ids)} tokens where {most} were asked for"
    unknown = [token for token in ids if not 0 <= token < vocabulary]
    if unknown:
        return f"token {unknown[0]}, which the tokenizer of {vocabulary} tokens does not know"
    odd = [logp for logp in logps if not (math.isfinite(logp) and logp <= _ROUNDING)]
    return f"log-probability {odd[0]:g} of a token" if odd else None


def _the_model(config: ServerSampler, reply: Any, fingerprint: str) -> Mapping[str, Any]:
    """What the server says of the model that is meant.

    Raises:
        ConfigError: it has none of that name, several that it could be, or one of other weights.
    """
    listed = reply.get("data") if isinstance(reply, dict) else None
    models = {m["id"]: m for m in listed or [] if isinstance(m, dict) and "id" in m}
    weights = {name: _weights(served) for name, served in models.items()}
    wanted = [name for name in models if config.model in (None, name)]
    same = [name for name in wanted if weights[name] == fingerprint]
    unknown = [name for name in wanted if weights[name] is None]
    found = same or unknown
    names = ", ".join(sorted(models)) or "none"
    if not wanted:
        raise ConfigError(f"{config.base_url}: has no model {config.model!r}, only {names}")
    if not found:
        raise ConfigError(
            f"{config.base_url}: has other weights than the policy ({names}); serve the policy's "
            "folder, a LoRA adapter with --lora-modules"
        )
    if len(found) > 1:
        raise ConfigError(
            f"{config.base_url}: has several models ({names}); name the policy in sampler.model"
        )
    return models[found[0]]


def _weights(served: Mapping[str, Any]) -> str | None:
    """The fingerprint of what is served, where its folder can be read from here."""
    root = served.get("root")
    if not isinstance(root, str) or not Path(root).is_absolute() or not Path(root).is_dir():
        return None
    return model_fingerprint(ModelSource(path=root))
