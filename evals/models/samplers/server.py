"""Sampling by a running vLLM server, over HTTP."""

import math
from collections.abc import Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from pydantic import Field

from evals.models.http.addresses import Address, KeyVariable, key_of
from evals.models.samplers.protocol import (
    PromptTokens,
    Sample,
    SampleRequest,
    SamplingSettings,
    Unsampled,
    completion_of,
    tokenize_requests,
)
from schemas.errors import BackendError, ConfigError
from schemas.stage import Config

if TYPE_CHECKING:
    from evals.models.checkpoints import ModelSource
    from evals.models.http.transport import Transport
    from evals.models.rendering import ChatRenderer
    from schemas.stage import Runtime, SamplerServerRuntime

T = TypeVar("T")

_ROUNDING = 1e-3

# What the model's own generation settings on the server could otherwise change.
_AS_THE_MODEL_IS = {
    "top_k": 0,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
}
# Failures that would come again: the request is at fault, not the server.
_OF_THE_PROMPT = ("prompt_too_long", "content_filter", "bad_request")


class ServerSampler(Config):
    """A server that `vllm serve` runs with the policy's weights, one machine or many.

    Prompts are rendered here, by the policy's own tokenizer, and sent as token ids. On CPU the
    server needs `--no-enable-chunked-prefill`, or a seed stops it.
    """

    kind: Literal["server"] = "server"
    base_url: Address = Field(description="address of the server, like http://127.0.0.1:8000/v1")
    model: str | None = Field(
        None,
        description="the policy's name there; null takes the model that has the policy's weights, "
        "else the only one",
    )
    api_key_env: KeyVariable | None = Field(
        None, description="environment variable that holds the key; null sends none"
    )

    def open(self, model: "ModelSource", runtime: "Runtime") -> "ServerSampling":
        """Open the tokenizer, and see whether the server has the model.

        Raises:
            ConfigError: no key, or the server has another model.
            BackendError: the server does not answer, or the tokenizer cannot be opened.
        """
        from evals.models.chat.checks import sound_renderer
        from evals.models.checkpoints import load_tokenizer, model_fingerprint

        renderer = sound_renderer(load_tokenizer(model))
        key = key_of(self.base_url, self.api_key_env)
        return ServerSampling(self, renderer, model_fingerprint(model), key, runtime.sampler_server)


class ServerSampling:
    """A server that has the model, and the model's renderer."""

    name = "server"

    def __init__(
        self,
        config: ServerSampler,
        renderer: "ChatRenderer",
        fingerprint: str,
        key: str | None,
        runtime: "SamplerServerRuntime",
    ) -> None:
        """Asks the server which models it has. Raises as `ServerSampler.open`."""
        from evals.models.http.retrying import FIRST_CALLS

        self.fingerprint = fingerprint
        self._url = config.base_url
        self._renderer = renderer
        self._key = key
        self._runtime = runtime
        self._in_flight = FIRST_CALLS
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
        found = wait_for(self._all(fitting, settings)) if fitting else []
        answers |= {prompt.index: one for prompt, one in zip(fitting, found, strict=True)}
        return [answers[index] for index in range(len(requests))]

    def close(self) -> None:
        """Nothing is kept open between two calls."""

    async def _models(self) -> Any:
        from evals.models.http.transport import CallFailed

        transport = self._transport()
        try:
            return await transport.look("models")
        except CallFailed as failure:
            raise BackendError(
                f"{self._url}: does not answer ({failure}); start the server, or correct "
                "sampler.base_url"
            ) from None
        finally:
            await transport.close()

    async def _all(
        self, prompts: Sequence[PromptTokens], settings: SamplingSettings
    ) -> list[Sample]:
        import asyncio

        from evals.models.http.retrying import Retrying

        transport = self._transport()
        # What the server could take in the last shard, it can take in this one.
        calls = Retrying(self._url, self._runtime, self._in_flight)

        async def one(prompt: PromptTokens) -> Sample:
            body = self._body(prompt, settings)
            name = f"{prompt.index}/{prompt.seed}"
            return await self._one(
                calls.call(name, lambda: transport.ask("completions", body)),
                settings.max_tokens,
                prompt,
            )

        tasks = [asyncio.ensure_future(one(prompt)) for prompt in prompts]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await transport.close()
            self._in_flight = max(1, int(calls.limit.limit))

    async def _one(self, call: Coroutine[Any, Any, Any], most: int, prompt: PromptTokens) -> Sample:
        from evals.models.http.transport import CallFailed

        try:
            return self._completion(await call, most, prompt)
        except CallFailed as failure:
            if failure.reason in _OF_THE_PROMPT:
                return Unsampled(failure.reason, failure.detail)
            raise BackendError(
                f"{self._url}: no completion after all attempts ({failure}); check the server, "
                "then run the same command again: finished shards are kept"
            ) from None

    def _transport(self) -> "Transport":
        from evals.models.http.transport import Transport

        return Transport(self._url, self._key, self._runtime)

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
    from evals.models.checkpoints import ModelSource, model_fingerprint

    root = served.get("root")
    if not isinstance(root, str) or not Path(root).is_absolute() or not Path(root).is_dir():
        return None
    return model_fingerprint(ModelSource(path=root))


def wait_for(work: Coroutine[Any, Any, T]) -> T:
    """Run to the end, also where an event loop is running already."""
    import asyncio

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()
