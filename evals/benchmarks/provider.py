"""A provider for inspect-ai over our samplers. Importing it imports inspect_ai (3 s).

inspect asks for one completion at a time, from many samples at once; the calls of a short while
are sampled as one batch (`evals.benchmarks.async_batcher`).
"""

from collections.abc import Callable, Sequence

from inspect_ai.log._samples import sample_active
from inspect_ai.model import (
    ChatCompletionChoice,
    ChatMessage,
    ChatMessageAssistant,
    GenerateConfig,
    Model,
    ModelAPI,
    ModelOutput,
    ModelUsage,
    StopReason,
    modelapi,
)
from inspect_ai.tool import ToolChoice, ToolInfo

from evals.benchmarks.async_batcher import Batcher
from evals.models.samplers import (
    Sample,
    SampledCompletion,
    Sampler,
    SampleRequest,
    SamplingSettings,
)
from schemas.errors import BackendError
from schemas.ids import canonical_messages, content_id, seed_from
from schemas.labels import Message, Messages

MAX_CONNECTIONS = 1024

CountTokens = Callable[[Messages], int]


_Call = tuple[SampleRequest, SamplingSettings]


@modelapi(name="prefline")
class SamplerAPI(ModelAPI):
    """One of our samplers as a model of inspect's.

    Every call gets a seed of its own, derived from the task, the sample, the epoch and the number
    of like calls in it: epochs differ, and a rerun gives the same completions.
    """

    def __init__(
        self,
        model_name: str,
        sampler: Sampler,
        settings: SamplingSettings,
        count_tokens: CountTokens,
        config: GenerateConfig | None = None,
    ) -> None:
        super().__init__(model_name, config=config or GenerateConfig())
        self._sampler = sampler
        self._settings = settings
        self._count_tokens = count_tokens
        self._batcher: Batcher[_Call, Sample] = Batcher(self._sample)
        self._asked: dict[str, int] = {}

    def max_connections(self) -> int:
        """Calls that inspect keeps open at once, and so the largest batch."""
        return MAX_CONNECTIONS

    async def count_text_tokens(self, text: str) -> int:
        """Tokens of a text as a user's turn; inspect's own way fetches a tokenizer."""
        return self._count_tokens([{"role": "user", "content": text}])

    async def generate(
        self,
        input: list[ChatMessage],
        tools: list[ToolInfo],
        tool_choice: ToolChoice,
        config: GenerateConfig,
    ) -> ModelOutput:
        """One completion of the conversation.

        Raises:
            BackendError: the sampler failed, or the task asks for what a local checkpoint cannot
                do: tools, pictures, settings. A benchmark is what its author wrote, or nothing.
        """
        if tools:
            raise BackendError("a local checkpoint calls no tools, and the task offers some")
        _refuse_unknown(input, config)
        prompt: list[Message] = [{"role": m.role, "content": m.text} for m in input]
        settings = self._settings_for(config)
        outputs = []
        for _ in range(config.num_choices or 1):
            answer = await self._batcher.ask((self._request(prompt, config), settings))
            if isinstance(answer, Exception):
                # An exception for each: one that is raised many times drags them all along.
                said = f"{type(answer).__name__}: {answer}"
                raise BackendError(f"the sampler failed: {said}") from answer
            outputs.append(self._output(answer, prompt, config.stop_seqs or []))
        first, choices = outputs[0], [output.choices[0] for output in outputs]
        return first.model_copy(update={"choices": choices}) if len(choices) > 1 else first

    def _request(self, prompt: Messages, config: GenerateConfig) -> SampleRequest:
        sample = sample_active()
        place = (sample.task, str(sample.sample.id), sample.epoch) if sample else ()
        call = content_id("call", *map(str, place), canonical_messages(prompt))
        self._asked[call] = repeat = self._asked.get(call, -1) + 1
        seed = self._settings.seed if config.seed is None else config.seed
        return SampleRequest(f"{call}/{repeat}", prompt, seed_from(seed, call, repeat))

    def _settings_for(self, config: GenerateConfig) -> SamplingSettings:
        """Ours, except where the task or the caller of inspect sets its own."""
        given = {
            name: value
            for name in ("temperature", "top_p", "max_tokens")
            if (value := getattr(config, name)) is not None
        }
        if config.top_k == 1:
            given["temperature"] = 0.0  # the one token that is left is the most probable one
        return self._settings.model_copy(update=given)

    def _sample(self, calls: Sequence[_Call]) -> list[Sample]:
        """One batch per settings, in the order of keys: what waits together is left to chance."""
        answers: dict[str, Sample] = {}
        ordered = sorted(calls, key=lambda call: call[0].key)
        for settings in {call[1].model_dump_json(): call[1] for call in ordered}.values():
            batch = [request for request, wanted in ordered if wanted == settings]
            keys = [request.key for request in batch]
            answers.update(zip(keys, self._sampler.sample(batch, settings), strict=True))
        return [answers[request.key] for request, _ in calls]

    def _output(self, answer: Sample, prompt: Messages, stops: Sequence[str]) -> ModelOutput:
        read = self._count_tokens(prompt)
        if not isinstance(answer, SampledCompletion):
            said = f"{answer.reason}: {answer.detail}"
            return self._completed("", "model_length", ModelUsage(input_tokens=read), error=said)
        text, cut = _cut_at(answer.text, stops)
        stopped = cut or answer.finish_reason == "stop"
        wrote = answer.num_tokens or 0
        usage = ModelUsage(input_tokens=read, output_tokens=wrote, total_tokens=read + wrote)
        return self._completed(text, "stop" if stopped else "max_tokens", usage)

    def _completed(
        self, text: str, stop: StopReason, usage: ModelUsage, error: str | None = None
    ) -> ModelOutput:
        message = ChatMessageAssistant(content=text, model=self.model_name, source="generate")
        choice = ChatCompletionChoice(message=message, stop_reason=stop)
        return ModelOutput(model=self.model_name, choices=[choice], usage=usage, error=error)


def local_model(
    name: str, sampler: Sampler, settings: SamplingSettings, count_tokens: CountTokens
) -> Model:
    """An inspect model called `prefline/<name>` that writes with `sampler`.

    Its arguments, which every log repeats, name the checkpoint's fingerprint and the settings.
    """
    api = SamplerAPI(name, sampler, settings, count_tokens)
    arguments = {"fingerprint": sampler.fingerprint, "engine": sampler.name}
    return Model(api, GenerateConfig(), arguments | settings.model_dump())


_HONOURED = {"system_message", "max_tokens", "top_p", "temperature", "stop_seqs", "seed"}
_HONOURED |= {"num_choices"}
# How a call is made, and not what is asked.
_OF_TRANSPORT = {"max_retries", "timeout", "attempt_timeout", "stream_idle_timeout", "cache"}
_OF_TRANSPORT |= {"max_connections", "adaptive_connections", "cache_prompt", "batch"}
_OF_TRANSPORT |= {"extra_headers", "fallback_models", "fail_on_refusal"}
# Of tools, which are refused as such, and of how the thoughts of earlier turns are sent.
_OF_TOOLS = {"parallel_tool_calls", "internal_tools", "max_tool_output", "reasoning_history"}
_KNOWN = _HONOURED | _OF_TRANSPORT | _OF_TOOLS


def _refuse_unknown(messages: Sequence[ChatMessage], config: GenerateConfig) -> None:
    """Refuse what would be dropped: a score of something else than the task asked is none."""
    asked = config.model_dump(exclude_none=True)
    if asked.get("top_k") == 1:
        del asked["top_k"]
    unknown = [name for name, value in asked.items() if name not in _KNOWN and value is not False]
    if unknown:
        raise BackendError(
            f"the task sets {', '.join(unknown)}, which a local checkpoint does not honour"
        )
    for message in messages:
        parts = [] if isinstance(message.content, str) else message.content
        kinds = [part.type for part in parts if part.type not in ("text", "reasoning")]
        if kinds:
            raise BackendError(f"a local checkpoint reads text alone, and the task has {kinds[0]}")


def _cut_at(text: str, stops: Sequence[str]) -> tuple[str, bool]:
    """The text before the first stop sequence, and whether there was one."""
    places = [place for stop in stops if (place := text.find(stop)) >= 0]
    return (text[: min(places)], True) if places else (text, False)
