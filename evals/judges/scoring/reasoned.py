"""A judge in this process that gives its reasons, or thinks, before it states a verdict."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property

from evals.judges.kinds.llm import LlmJudge
from evals.judges.openai.read_reply import read_verdict, why_unread
from evals.judges.openai.replies import Reply
from evals.judges.scoring.fitting import CUT_NOTE, Fitting, cut_warning
from evals.judges.verdicts.thinking import opens_a_thought, without_thinking
from evals.models.chat.renderer import ChatRenderer
from evals.models.checkpoints import ModelSource, load_tokenizer, model_fingerprint
from evals.models.samplers import (
    SampledCompletion,
    Sampler,
    SampleRequest,
    SamplingSettings,
    TransformersSampler,
    VllmSampler,
)
from evals.models.vllm.options import position_limit
from schemas.ids import content_id
from schemas.labels import Answer, Comparison, Message, Rating, Unscored, Verdict
from schemas.stage import Runtime

_REPLY_TOKENS = 1024
_ASKS = 2


class ReasonedJudge:
    """Lets the model write, most likely token by token, and reads what it says after thinking.

    The engine starts with the first comparison and is given back by `close`.
    """

    has_a_layout = True

    def __init__(self, name: str, config: LlmJudge, source: ModelSource, runtime: Runtime) -> None:
        """Opens the tokenizer. Raises what that raises."""
        self.name = name
        self.config = config
        self._source = source
        self._runtime = runtime
        self._renderer = ChatRenderer(load_tokenizer(source))
        self._sampler: Sampler | None = None
        self._cut = 0
        limits = (position_limit(source), config.max_prompt_tokens)
        self._context = limits[0]
        wanted = config.max_reply_tokens or _REPLY_TOKENS + self._room_to_think()
        self._budget = min(wanted, self._context // 2) if self._context else wanted
        room = self._context - self._budget if self._context else None
        self._limit = min((n for n in (room, limits[1]) if n is not None), default=2**31 - 1)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of layout, settings and weights; where the weights lie is no part of it."""
        settings = self.config.model_dump_json(exclude={"model"})
        weights = model_fingerprint(self._source)
        return content_id("judge", self.name, self.config.layout, settings, weights)

    def with_reference(self, comparison: Comparison) -> bool | None:
        """Whether a reference answer is shown; None where none ever is."""
        return self.config.with_reference(comparison)

    @property
    def warnings(self) -> list[str]:
        """How many comparisons were not shown whole."""
        return cut_warning(self._cut, self._limit)

    def close(self) -> None:
        """Stop the engine; the next comparison starts another."""
        if self._sampler is not None:
            self._sampler.close()
            self._sampler = None

    def judge(self, comparisons: Sequence[Comparison]) -> list[Verdict]:
        """One verdict per comparison, in order; who states none is asked again."""
        return [_verdict(answer) for answer in self.answers(comparisons)]

    def answers(self, comparisons: Sequence[Comparison]) -> list[Answer]:
        """What is said of each, in order: verdicts, or ratings of a completion alone."""
        shown = [self._shown(comparison) for comparison in comparisons]
        verdicts: list[Answer | None] = [None] * len(shown)
        chats = [chat for chat, _ in shown]
        last: dict[int, Reply] = {}
        for _ in range(_ASKS):
            asked = [i for i, verdict in enumerate(verdicts) if verdict is None]
            for i, reply in zip(asked, self._replies([chats[i] for i in asked]), strict=True):
                if isinstance(reply, Unscored):
                    verdicts[i] = reply
                    continue
                last[i] = reply
                verdicts[i] = read_verdict(reply, 0.0, None, False, self.config.reading)
                chats[i] = self._again(chats[i], reply)
        return [
            _noted(verdict or self._unread(last[i]), shown[i][1])
            for i, verdict in enumerate(verdicts)
        ]

    def _unread(self, reply: Reply) -> Unscored:
        reason, detail = why_unread(reply, self.config.reading)
        return Unscored(
            reason,
            f"{_ASKS} replies, {detail}",
            raw=reply.content,
            prompt_tokens=reply.prompt_tokens,
            completion_tokens=reply.completion_tokens,
        )

    def _replies(self, chats: Sequence[list[Message]]) -> list[Reply | Unscored]:
        if not chats:
            return []
        requests = [SampleRequest(str(i), chat, seed=0) for i, chat in enumerate(chats)]
        settings = SamplingSettings(temperature=0, max_tokens=self._budget)
        answers = self._started().sample(requests, settings)
        return [
            self._reply(chat, answer)
            if isinstance(answer, SampledCompletion)
            else Unscored(answer.reason, answer.detail)
            for chat, answer in zip(chats, answers, strict=True)
        ]

    def _reply(self, chat: list[Message], answer: SampledCompletion) -> Reply:
        """The text with its thoughts, also where tags of thoughts are special tokens."""
        tokenizer = self._renderer.tokenizer
        written = [i for i in answer.token_ids if i not in self._renderer.end_ids]
        prompt = self._renderer.prompt_ids(chat)
        opened = opens_a_thought(str(tokenizer.decode(prompt[-16:])))
        text = str(tokenizer.decode(written))
        return Reply(
            content=f"<think>{text}" if opened else text,
            finish_reason=answer.finish_reason,
            prompt_tokens=len(prompt),
            completion_tokens=len(answer.token_ids),
        )

    def _again(self, chat: list[Message], reply: Reply) -> list[Message]:
        said = without_thinking(reply.content) or "..."
        return [
            *chat,
            {"role": "assistant", "content": said},
            {"role": "user", "content": self.config.reminder},
        ]

    def _shown(self, comparison: Comparison) -> tuple[list[Message], str]:
        """The conversation, with completions cut to fit where that is wished."""
        chat = self.config.chat(comparison)
        tokens = len(self._renderer.prompt_ids(chat))
        if tokens <= self._limit or self.config.overlong == "unscored":
            return chat, ""
        fitting = Fitting(
            self._renderer.tokenizer,
            lambda one: self._renderer.prompt_ids(self.config.chat(one)),
            self._limit,
        )
        cut = fitting.cut_comparison(comparison, tokens)
        if cut is None:
            return chat, ""
        self._cut += 1
        return self.config.chat(cut), CUT_NOTE

    def _room_to_think(self) -> int:
        """More tokens where the model's template knows thoughts."""
        template = str(self._renderer.tokenizer.chat_template).lower()
        return self.config.thinking_tokens if "think" in template else 0

    def _started(self) -> Sampler:
        if self._sampler is None:
            kind = VllmSampler if self.config.engine == "vllm" else TransformersSampler
            self._sampler = kind(dtype=self.config.dtype).open(self._source, self._runtime)
        return self._sampler


def _verdict(answer: Answer) -> Verdict:
    if isinstance(answer, Rating):
        raise TypeError("a rating in place of a verdict")
    return answer


def _noted(verdict: Answer, note: str) -> Answer:
    return replace(verdict, raw=verdict.raw + note) if note else verdict
