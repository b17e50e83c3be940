"""Conversations to tokens, with one rule for training, sampling, judging and evaluation.

The tokenizer's chat template is the only layout there is. A base model without one is given a
template by name or by path, and the template is saved with every checkpoint made from it, so that
whoever opens the checkpoint (vLLM, transformers, a chat program) renders the same.
"""

import json
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from itertools import groupby, takewhile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from transformers import PreTrainedTokenizerBase

from evals.models.chat.read_only import plain, with_read_only
from evals.models.chat.reading import Read, Reader
from evals.models.chat.templates.ends import End, Ends
from evals.models.chat.templates.named_templates import ARGUMENTS_KEY, CHAT_TEMPLATES, DATE_KEY
from evals.models.chat.templates.structure import Structure
from evals.models.chat.templates.template import Asked, ChatTemplate, TemplateRefusal
from evals.models.chat.templates.turns import Turns, Written
from evals.models.chat.templates.whole import Whole
from evals.models.chat.tokens import InPlace
from schemas.errors import ConfigError, DataError
from schemas.ids import content_id, file_sha256
from schemas.labels import Message, Messages, ToolCall

# To be raised when the same conversation gives other tokens than before.
_RULE = "2"


@dataclass(frozen=True)
class RenderedCompletion:
    """A prompt (with the generation header) and a completion (with its end), in text and tokens.

    `trained` says of each of `completion_ids` whether an assistant has to write it: all but what
    stands between several turns of one completion. `end_id` ends the last turn. `neutralised`
    counts the places where text imitated the template's structure.
    """

    prompt_ids: list[int]
    completion_ids: list[int]
    trained: Sequence[bool] = ()
    prompt_text: str = ""
    completion_text: str = ""
    end_id: int = -1
    neutralised: int = 0


@dataclass(frozen=True)
class RenderedBranches:
    """Token ids of a prompt (with the generation header) and of each completion (with its end).

    Where one completion thinks and another does not, their prompts differ at the end: `prompt_ids`
    is what they share. What of a completion is read only is below zero: see `read_only`.
    """

    prompt_ids: list[int]
    completions: list[list[int]]
    neutralised: int = 0


@dataclass(frozen=True)
class _Text:
    """A rendered conversation in text: the prompt, and pieces with whether they are trained."""

    prompt: str
    pieces: list[tuple[str, bool]]
    end_id: int
    neutralised: int

    @property
    def completion(self) -> str:
        return "".join(text for text, _ in self.pieces)


class ChatRenderer:
    """Renders conversations with a tokenizer's chat template, and reads messages back."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        arguments: Mapping[str, Any] | None = None,
        today: date | None = None,
    ) -> None:
        """`arguments` are the template's, `today` the day it is told; both else as saved with the
        tokenizer.

        Raises:
            ConfigError: the tokenizer has no chat template, or nothing ends an assistant's turn.
        """
        if not tokenizer.chat_template:
            raise ConfigError(
                f"{tokenizer.name_or_path}: the tokenizer has no chat template; name one beside "
                "the model's path, like model = {path = ..., chat_template = 'chatml'} (there are "
                f"{' and '.join(CHAT_TEMPLATES)}, or a path to one), or save chat_template.jinja "
                "into its folder"
            )
        kept = tokenizer.init_kwargs
        told = kept.get(ARGUMENTS_KEY) or {} if arguments is None else arguments
        day = today or date.fromisoformat(kept.get(DATE_KEY) or date.today().isoformat())
        self.tokenizer = tokenizer
        self.template = ChatTemplate(tokenizer, day)
        self._asked = Asked(dict(told))
        self._ends = Ends(self.template)
        self._turns = Turns(self.template)
        self._whole = Whole(self.template)
        self._ends.of(self._asked, calls=False)

    def asked(
        self,
        arguments: Mapping[str, Any] | None = None,
        tools: Sequence[Mapping[str, Any]] | None = None,
    ) -> Asked:
        """What the template is given beside the messages of one conversation."""
        return Asked({**self._asked.arguments, **(arguments or {})}, tools or None)

    @cached_property
    def end_ids(self) -> list[int]:
        """Tokens that end an assistant's turn: of an answer first, of a tool call, the tokenizer's
        end of text, and what the model's generation config names.
        """
        answer = self._ends.of(self._asked, calls=False)
        ends = [answer.id]
        if self.template.dialect.calls:
            ends.append(self._ends.of(self._asked, calls=True).id)
        if self.tokenizer.eos_token_id is not None:
            ends.append(int(self.tokenizer.eos_token_id))
        if not answer.written:
            ends += self._ends.next_headers(self._asked)
        return list(dict.fromkeys([*ends, *_generation_ends(self.tokenizer)]))

    @property
    def closes_turns(self) -> bool:
        """Whether the template itself ends an answer with a token."""
        return self._ends.of(self._asked, calls=False).written

    @cached_property
    def structure(self) -> Structure:
        """The tokens that text must not imitate."""
        marks = [mark.strip() for mark in self._turns.around or ()]
        return Structure(self._ends, set(self.end_ids), marks)

    @cached_property
    def in_place(self) -> InPlace:
        """Text to tokens."""
        return InPlace(self.tokenizer, self.structure.tokens)

    @cached_property
    def reader(self) -> Reader:
        """Text to messages."""
        return Reader(self._turns, self._ends)

    def neutralised(self, messages: Messages) -> int:
        """How many places of a conversation imitate the structure."""
        return self._clean(messages)[1]

    def neutralise(self, text: str) -> str:
        """Break every structural token that a text spells out, visibly and by one character."""
        return self.structure.neutralise(text)[0]

    def prompt_text(self, prompt: Messages, asked: Asked | None = None) -> str:
        """A conversation up to where the assistant begins, or goes on, to write.

        Raises:
            TemplateRefusal: the template refuses it, or would leave some of it out.
        """
        asked = asked or self._asked
        cleaned, _ = self._clean(prompt)
        if cleaned and cleaned[-1]["role"] == "assistant":
            return self._prefilled(cleaned[:-1], cleaned[-1], asked)[0]
        self._whole.refuse_what_is_left_out(cleaned, asked)
        return self._turns.prompt(self.template.turns(cleaned), asked)

    def prompt_ids(self, prompt: Messages, asked: Asked | None = None) -> list[int]:
        """Token ids of a conversation up to where the assistant begins to write."""
        return self.in_place.prompt(self.prompt_text(prompt, asked))

    def render(
        self, prompt: Messages, completion: Messages, asked: Asked | None = None
    ) -> RenderedCompletion:
        """A prompt and its completion, which ends with the token that ends the assistant's turn.

        Raises:
            TemplateRefusal: the template refuses the conversation, or would leave some of it out.
        """
        text = self._text(prompt, completion, asked or self._asked)
        ids, trained = self._completion(text)
        return RenderedCompletion(
            prompt_ids=self.in_place.prompt(text.prompt),
            completion_ids=ids,
            trained=trained,
            prompt_text=text.prompt,
            completion_text=text.completion,
            end_id=text.end_id,
            neutralised=text.neutralised,
        )

    def render_many(
        self,
        items: Sequence[tuple[Messages, Sequence[Messages]]],
        asked: Sequence[Asked | None] | None = None,
    ) -> list[RenderedBranches | DataError]:
        """What `render` gives, for many prompts with their completions at once.

        All texts go through the tokenizer together. An item for which `render` would raise has the
        error in its place.
        """
        told = asked or [None] * len(items)
        rendered: list[list[_Text] | DataError] = []
        for (prompt, completions), one in zip(items, told, strict=True):
            try:
                found = [self._text(prompt, c, one or self._asked) for c in completions]
            except DataError as error:
                rendered.append(error)
                continue
            rendered.append(found)
        whole = [texts for texts in rendered if not isinstance(texts, DataError)]
        self.in_place.read(text for texts in whole for one in texts for text in self._parts(one))
        branches = [
            texts if isinstance(texts, DataError) else self._branches(texts) for texts in rendered
        ]
        self.in_place.forget()
        return branches

    @cached_property
    def fingerprint(self) -> str:
        """32 hex digits of all that tokens depend on: tokenizer, chat template, its arguments."""
        tokenizer = self.tokenizer
        backend = getattr(tokenizer, "backend_tokenizer", None)
        state = [backend.to_str()] if backend else _saved(tokenizer)
        template = json.dumps(tokenizer.chat_template, sort_keys=True)
        special = json.dumps(tokenizer.special_tokens_map, sort_keys=True, default=str)
        told = [self._asked.key] if self._asked.arguments else []
        if self.template.reads_the_clock:
            told.append(self.template.today.isoformat())
        name = type(tokenizer).__name__
        return content_id("rendering", _RULE, name, template, special, *told, *state)

    def read(self, prompt_ids: Sequence[int], ids: Sequence[int], *, begun: bool = False) -> Read:
        """The message in what was written after a prompt, its end included or not.

        `begun` says that the prompt ended in the beginning of an answer.
        """
        ended = bool(ids) and ids[-1] in self.end_ids
        prompt = self.in_place.text([], list(prompt_ids)[-64:])
        text = self.in_place.text(list(prompt_ids), ids[:-1] if ended else ids)
        return self.reader.read(prompt, text, begun=begun)

    def without_thoughts(self, prompt_ids: Sequence[int], ids: Sequence[int]) -> list[int]:
        """A completion's ids with what was thought before each answer read only.

        A token that reaches from a thought into its answer belongs to the answer.
        """
        whole, made, start = list(plain(ids)), list(ids), 0
        for scored, run in groupby(ids, key=lambda i: i >= 0):
            end = start + len(list(run))
            if scored:
                until = self._thought_tokens([*prompt_ids, *whole[:start]], whole[start:end])
                made[start : start + until] = [~i for i in whole[start : start + until]]
            start = end
        return [int(i) for i in made]

    def _thought_tokens(self, before: list[int], ids: list[int]) -> int:
        near = before[-64:]
        ended = bool(ids) and ids[-1] in self.end_ids
        text = self.in_place.text(before, ids[:-1] if ended else ids)
        length = self.reader.length_of_thoughts(self.in_place.text([], near), text)
        if length is None:
            return len(ids)

        def spelled(count: int) -> int:
            return len(self.in_place.text(near, ids[:count]))

        return bisect_right(range(len(ids) + 1), length, key=spelled) - 1

    def keeps_apart(self, prompt_ids: Sequence[int]) -> bool:
        """Whether the template itself says where thoughts, calls or the answer of a turn stand."""
        dialect = self.template.dialect
        if dialect.reasoning or dialect.calls or self.reader.around_content[0].strip():
            return True
        return bool(self._turns.opening(self.in_place.text([], list(prompt_ids)[-64:])))

    def decode(self, ids: Sequence[int], prompt_ids: Sequence[int] = ()) -> str:
        """The text of sampled tokens without special tokens."""
        special = set(self.tokenizer.all_special_ids)
        text = self.in_place.text(list(prompt_ids), [i for i in ids if i not in special])
        lead, tail = self.reader.around_content
        if lead.isspace() and text.startswith(lead):
            text = text[len(lead) :]
        return text.removesuffix(tail) if tail.isspace() else text

    def _clean(self, messages: Messages) -> tuple[list[Message], int]:
        """The messages without imitations of structure, and how many there were."""
        cleaned, places = [], 0
        for message in messages:
            own = message["role"] == "assistant"
            made: Message = {**message}
            made["content"], found = self.structure.neutralise(message["content"], by_assistant=own)
            places += found
            if message.get("reasoning"):
                thought = message["reasoning"] or ""
                made["reasoning"], found = self.structure.neutralise(thought, by_assistant=True)
                places += found
            if message.get("tool_calls"):
                calls: list[ToolCall] = []
                for call in message["tool_calls"] or ():
                    said, found = self.structure.neutralise(call["function"]["arguments"])
                    name = call["function"]["name"]
                    calls.append({**call, "function": {"name": name, "arguments": said}})
                    places += found
                made["tool_calls"] = calls
            cleaned.append(made)
        return cleaned, places

    def _text(self, prompt: Messages, completion: Messages, asked: Asked) -> _Text:
        before, places = self._clean(prompt)
        turns, more = self._clean(completion)
        if not turns or turns[0]["role"] != "assistant":
            raise TemplateRefusal("the completion does not begin with an assistant's turn")
        if turns[-1]["role"] != "assistant":
            raise TemplateRefusal(f"the completion ends with a turn of {turns[-1]['role']}")
        if before and before[-1]["role"] == "assistant":
            whole: Message = {**turns[0], "content": before[-1]["content"] + turns[0]["content"]}
            if before[-1].get("reasoning"):
                whole["reasoning"] = before[-1].get("reasoning")
            head, written = self._prefilled(before[:-1], before[-1], asked, whole)
            before, turns = before[:-1], [whole, *turns[1:]]
            body, end = self._ended(written, whole)
            pieces = [((written.prompt + body)[len(head) :], True)]
        else:
            written = self._written(before, turns[0], asked)
            head = written.prompt
            body, end = self._ended(written, turns[0])
            pieces = [(body, True)]
        for place in range(1, len(turns)):
            if turns[place]["role"] != "assistant":
                continue
            after = self._written([*before, *turns[:place]], turns[place], asked)
            head, pieces = self._standing(head, pieces, written, body, end, after.prompt)
            written = after
            body, end = self._ended(written, turns[place])
            pieces.append((body, True))
        return _Text(head, [p for p in pieces if p[0]], end.id, places + more)

    def _written(self, before: list[Message], turn: Message, asked: Asked) -> Written:
        self._whole.refuse_what_is_left_out(before, asked)
        return self._turns.write(self.template.turns(before), turn, asked)

    def _standing(
        self,
        head: str,
        pieces: list[tuple[str, bool]],
        written: Written,
        body: str,
        end: End,
        then: str,
    ) -> tuple[str, list[tuple[str, bool]]]:
        """Prompt and pieces as they stand in the prompt of a later turn, up to where that begins.

        `body` is the last piece, or its end where an answer was begun. A template may write it
        otherwise now: without a thought, or with another end.
        """
        earlier = "".join(text for text, _ in pieces[:-1])
        last = pieces[-1][0]
        bare = head if pieces[:-1] else written.bare if head == written.prompt else head
        gap = ""
        if pieces[:-1]:
            gap, earlier = pieces[-2][0], "".join(text for text, _ in pieces[:-2])
        unended = last.removesuffix(end.text)
        spoken = written.text[written.content_at : written.content_end]
        for start, text in (
            (head + earlier + gap, last),
            (head + earlier + gap, unended),
            (bare + earlier + gap, last),
            (bare + earlier + gap, unended),
            (bare + earlier + gap, spoken + end.text),
            (bare + earlier + gap, spoken),
        ):
            if text and then.startswith(start + text):
                rest = then[len(start + text) :]
                mark = next((m for m in self._ends.tokens if rest.startswith(m)), "")
                closing = mark if not end.written and mark else ""
                kept = [*pieces[:-1], (text, True), (closing, True), (rest[len(closing) :], False)]
                return (start[: len(start) - len(earlier + gap)], [p for p in kept if p[0]])
        raise TemplateRefusal(
            "the chat template renders an assistant's earlier turn differently once another "
            "follows; make each turn a row of its own"
        )

    def _prefilled(
        self, before: list[Message], begun: Message, asked: Asked, whole: Message | None = None
    ) -> tuple[str, Written]:
        """The prompt with the beginning of an answer in it, and the turn that goes on from it."""
        self._whole.refuse_what_is_left_out(before, asked)
        turn = whole or {**begun, "content": begun["content"] or "x"}
        written = self._turns.write(self.template.turns(before), turn, asked)
        if not begun["content"]:
            return written.prompt, written
        said, kept = turn["content"], written.text[written.content_at : written.content_end]
        gone = len(said) - len(said.lstrip()) if not said.startswith(kept[:1] or "x") else 0
        head = written.prompt + written.text[: written.content_at]
        if whole is None:  # what the template trims at the end of a finished turn stays here
            return head + begun["content"][gone:], written
        length = min(max(0, len(begun["content"]) - gone), len(kept))
        return head + kept[:length], written

    def _ended(self, written: Written, message: Message) -> tuple[str, End]:
        """What an assistant writes in a turn, up to and with its end; and the end."""
        calls = bool(message.get("tool_calls"))
        end = self._ends.of(written.asked, calls=calls)
        at = written.text.rfind(end.text, min(written.content_end, len(written.text)))
        if at < 0 and written.content_end == len(written.text):
            at = written.text.rfind(end.text)
        if at >= 0:
            return written.text[: at + len(end.text)], end
        tail = written.text[written.content_end :].rstrip()
        return written.text[: written.content_end] + tail + end.text, end

    def _parts(self, text: _Text) -> list[str]:
        """The texts that have to be tokenised for a conversation."""
        parts, before = [text.prompt], text.prompt
        for piece, _ in text.pieces:
            anchor = self.in_place.anchor(before)
            parts += [anchor, anchor + piece]
            before += piece
        return parts

    def _completion(self, text: _Text) -> tuple[list[int], list[bool]]:
        ids: list[int] = []
        trained: list[bool] = []
        before = text.prompt
        for piece, learned in text.pieces:
            found = self.in_place.after(before, piece)
            ids += found
            trained += [learned] * len(found)
            before += piece
        return ids, trained

    def _branches(self, texts: list[_Text]) -> RenderedBranches:
        prompts = [self.in_place.prompt(text.prompt) for text in texts]
        columns = zip(*prompts, strict=False)
        shared = sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, columns))
        completions = []
        for prompt, text in zip(prompts, texts, strict=True):
            own = [~i for i in prompt[shared:]]
            completions.append([*own, *with_read_only(*self._completion(text))])
        return RenderedBranches(
            prompts[0][:shared], completions, sum(text.neutralised for text in texts)
        )


def _generation_ends(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The end tokens that the generation config beside a tokenizer names."""
    file = Path(tokenizer.name_or_path) / "generation_config.json"
    try:
        named = json.loads(file.read_text()).get("eos_token_id") if file.is_file() else None
    except (OSError, ValueError, AttributeError):
        named = None
    ids = named if isinstance(named, list) else [named]
    return [i for i in ids if isinstance(i, int) and not isinstance(i, bool)]


def _saved(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Digests of the files of a tokenizer that is not of the `tokenizers` library."""
    with TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        return [f"{p.name}={file_sha256(p)}" for p in sorted(Path(folder).iterdir())]
