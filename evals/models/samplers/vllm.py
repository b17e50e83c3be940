"""Sampling with vLLM, in this process."""

from collections.abc import Sequence
from typing import Any

from evals.models.chat.checks import sound_renderer
from evals.models.checkpoints import ModelSource, load_tokenizer, model_fingerprint
from evals.models.rendering import ChatRenderer
from evals.models.samplers.config import SamplingSettings, VllmSampler
from evals.models.samplers.prompts import PromptTokens, completion_of, tokenize_requests
from evals.models.samplers.protocol import Sample, SampledCompletion, SampleRequest
from evals.models.vllm.engine import VllmEngine, refuse_missing_vllm
from evals.models.vllm.options import EngineSettings
from schemas.stage import Runtime


def open_engine(config: VllmSampler, model: ModelSource, runtime: Runtime) -> "VllmSampling":
    """See `VllmSampler.open`."""
    refuse_missing_vllm("sampler kind vllm", "kind")
    renderer = sound_renderer(load_tokenizer(model))
    return VllmSampling(config, model, runtime, renderer, model_fingerprint(model))


class VllmSampling:
    """A running engine and its renderer."""

    name = "vllm"

    def __init__(
        self,
        config: VllmSampler,
        model: ModelSource,
        runtime: Runtime,
        renderer: ChatRenderer,
        fingerprint: str,
    ) -> None:
        self.fingerprint = fingerprint
        self._renderer = renderer
        settings = EngineSettings(config.dtype, config.max_model_len)
        self._engine: VllmEngine | None = VllmEngine(model, settings, runtime)

    def sample(self, requests: Sequence[SampleRequest], settings: SamplingSettings) -> list[Sample]:
        """One answer per request, in their order, all in one continuous batch."""
        if self._engine is None:
            raise RuntimeError("the sampler is closed")
        fitting, refused = tokenize_requests(
            self._renderer, requests, self._engine.context, settings.max_tokens
        )
        answers: dict[int, Sample] = dict(refused)
        if fitting:
            outputs = self._engine.generate(
                [prompt.ids for prompt in fitting],
                [self._parameters(prompt, settings) for prompt in fitting],
            )
            for prompt, output in zip(fitting, outputs, strict=True):
                answers[prompt.index] = self._completion(output.outputs[0], prompt)
        return [answers[index] for index in range(len(requests))]

    def close(self) -> None:
        """Stop the engine and leave the process as it was, so that another can be opened."""
        if self._engine is not None:
            self._engine.close()
            self._engine = None

    def _parameters(self, prompt: PromptTokens, settings: SamplingSettings) -> Any:
        from vllm import SamplingParams

        return SamplingParams(
            temperature=settings.temperature,
            top_p=settings.top_p,
            max_tokens=settings.max_tokens,
            seed=prompt.seed,
            stop_token_ids=self._renderer.end_ids,
            logprobs=0,
            detokenize=False,
        )

    def _completion(self, output: Any, prompt: PromptTokens) -> SampledCompletion:
        ids = list(output.token_ids)
        # Raw log-probabilities, before temperature and top_p: the engine's logprobs_mode.
        logps = [step[token].logprob for step, token in zip(output.logprobs, ids, strict=True)]
        return completion_of(self._renderer, ids, logps, prompt)
