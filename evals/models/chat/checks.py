"""What can be wrong with a tokenizer and its chat template: each check is one function in one list.

A finding is `wrong` where every conversation would be, and a `limit` where only conversations with
some feature are: those are rejected, each with that reason, and never trained in part.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from transformers import PreTrainedTokenizerBase

from evals.models.chat.renderer import ChatRenderer
from evals.models.chat.templates.ends import is_mark
from evals.models.chat.templates.template import TemplateRefusal
from schemas.errors import ConfigError, DataError
from schemas.labels import Message, Messages

_ASKED = "What does she eat?"
_SAID = "Soup, and bread."
_CODE = "Like  so:\n    def f(x):\n        return x"
_SCRIPTS = "\u00e9 \u65e5\u672c \U0001f35e"


@dataclass(frozen=True)
class Finding:
    """What a check has found: one line with what it is and what to do."""

    check: str
    severity: Literal["wrong", "limit"]
    message: str


Check = Callable[[ChatRenderer], Iterator[Finding]]


def findings(renderer: ChatRenderer) -> list[Finding]:
    """All findings of all checks."""
    return [found for check in CHECKS for found in check(renderer)]


def refuse_wrong(renderer: ChatRenderer) -> None:
    """Nothing, where no check finds that every conversation would be wrong.

    Raises:
        ConfigError: one does; the message is its.
    """
    for check in CHECKS:
        for found in check(renderer):
            if found.severity == "wrong":
                raise ConfigError(
                    f"{renderer.tokenizer.name_or_path}: {found.message}; see `prefline doctor`"
                )


def sound_renderer(tokenizer: PreTrainedTokenizerBase) -> ChatRenderer:
    """The renderer of a tokenizer. Raises ConfigError where every conversation would be wrong."""
    renderer = ChatRenderer(tokenizer)
    refuse_wrong(renderer)
    return renderer


def _user(text: str = _ASKED) -> Message:
    return {"role": "user", "content": text}


def _assistant(text: str = _SAID) -> Message:
    return {"role": "assistant", "content": text}


def _problem(renderer: ChatRenderer, prompt: Messages, completion: Messages) -> str | None:
    """Why a conversation is refused; None where it is rendered."""
    try:
        renderer.render(prompt, completion)
    except DataError as error:
        return str(error)
    return None


def single_turn(renderer: ChatRenderer) -> Iterator[Finding]:
    """A question and its answer are rendered."""
    problem = _problem(renderer, [_user()], [_assistant()])
    if problem:
        yield Finding("single_turn", "wrong", f"{problem}; use another chat_template")


def round_trip(renderer: ChatRenderer) -> Iterator[Finding]:
    """An answer comes back from its tokens: plain words, code with runs of spaces, all scripts."""
    for said, severity in (("Soup, and bread.", "wrong"), (_CODE, "limit"), (_SCRIPTS, "limit")):
        try:
            made = renderer.render([_user()], [_assistant(said)])
        except DataError:
            return
        found = renderer.read(made.prompt_ids, made.completion_ids).message["content"]
        if found.strip() != said.strip():
            yield Finding(
                "round_trip",
                severity,  # type: ignore[arg-type]
                f"an answer does not come back from its tokens: {found[:40]!r} where "
                f"{said[:40]!r} was said; use the tokenizer that the model was trained with",
            )
            return


def generation_prompt(renderer: ChatRenderer) -> Iterator[Finding]:
    """A finished turn begins with the prompt that a sampler is given."""
    try:
        prompt, template = renderer.prompt_text([_user()]), renderer.template
        turns = template.turns([_user(), _assistant()])
        finished = template.write(turns, renderer.asked(), header=False)
    except DataError:
        return
    if not finished.startswith(prompt):
        yield Finding(
            "generation_prompt",
            "limit",
            "a finished turn does not begin with the generation prompt: what a model would write "
            "after the prompt is trained; programs that look for the prompt in the finished turn "
            "fail with this template",
        )


def begin_of_text(renderer: ChatRenderer) -> Iterator[Finding]:
    """The beginning of text stands once before a conversation."""
    begin = renderer.tokenizer.bos_token_id
    try:
        ids = renderer.prompt_ids([_user()])
    except DataError:
        return
    if begin is None:
        return
    if ids.count(begin) > 1 and ids[:2] == [begin, begin]:
        yield Finding(
            "begin_of_text",
            "wrong",
            f"a conversation begins with {renderer.tokenizer.bos_token} twice: the chat template "
            "writes it twice; mend the template",
        )
    elif renderer.in_place.begins and begin not in renderer.in_place.encode(
        renderer.prompt_text([_user()])
    ):
        yield Finding(
            "begin_of_text",
            "limit",
            f"the chat template does not write {renderer.tokenizer.bos_token}, which the tokenizer "
            "puts before every text: prefline puts it there, a server of the model may not",
        )


def end_of_turn(renderer: ChatRenderer) -> Iterator[Finding]:
    """The last trained token ends the turn, and it is one that the template writes."""
    try:
        made = renderer.render([_user()], [_assistant()])
    except DataError:
        return
    if made.completion_ids[-1:] != [made.end_id]:
        yield Finding(
            "end_of_turn",
            "wrong",
            "the text that ends a turn is not one token in its place: no sample would stop; mend "
            "the tokenizer or use another chat_template",
        )
    elif not renderer.closes_turns:
        yield Finding(
            "end_of_turn",
            "limit",
            "the chat template writes nothing at the end of a turn: "
            f"{renderer.tokenizer.eos_token} is put there",
        )


def tokens_of_the_template(renderer: ChatRenderer) -> Iterator[Finding]:
    """The marks that the template writes are tokens of the tokenizer."""
    try:
        made = renderer.render([_user("x")], [_assistant("y")])
    except DataError:
        return
    text = made.prompt_text + made.completion_text
    marks = {mark for mark in _marks(text) if len(renderer.in_place.encode(mark)) > 1}
    if marks:
        yield Finding(
            "tokens_of_the_template",
            "limit",
            f"the tokenizer has no token for {', '.join(sorted(marks))}: each is several tokens, "
            "and text that imitates it cannot be told from it",
        )


def system_turn(renderer: ChatRenderer) -> Iterator[Finding]:
    """A system turn is rendered."""
    system: Message = {"role": "system", "content": "Be short."}
    problem = _problem(renderer, [system, _user()], [_assistant()])
    if problem:
        yield Finding("system_turn", "limit", f"system turns: {problem}; such rows are rejected")


def several_turns(renderer: ChatRenderer) -> Iterator[Finding]:
    """A conversation of several turns is rendered."""
    problem = _problem(renderer, [_user(), _assistant("Soup."), _user("Why?")], [_assistant()])
    if problem:
        yield Finding("several_turns", "limit", f"several turns: {problem}; such rows are rejected")


def thinking(renderer: ChatRenderer) -> Iterator[Finding]:
    """Thoughts are rendered the way the template writes them."""
    mused: Message = {"role": "assistant", "content": "Soup.", "reasoning": "easy"}
    problem = _problem(renderer, [_user()], [mused])
    if problem:
        yield Finding("thinking", "limit", f"thoughts: {problem}; such rows are rejected")
    elif not renderer.template.dialect.reasoning:
        yield Finding(
            "thinking",
            "limit",
            "the chat template has no place for thoughts: they are put before the answer between "
            "<think> and </think>",
        )


def tools(renderer: ChatRenderer) -> Iterator[Finding]:
    """Tool calls, their results and the tools themselves are rendered."""
    call: Message = {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"function": {"name": "look_up", "arguments": '{"word": "soup"}'}}],
    }
    result: Message = {"role": "tool", "content": "hot", "name": "look_up"}
    problem = _problem(renderer, [_user()], [call])
    problem = problem or _problem(renderer, [_user(), call, result], [_assistant()])
    if problem:
        yield Finding("tools", "limit", f"tool calls: {problem}; such rows are rejected")
    tool = {"type": "function", "function": {"name": "look_up", "parameters": {}}}
    try:
        renderer.prompt_text([_user()], renderer.asked(tools=[tool]))
    except TemplateRefusal as error:
        yield Finding("tools", "limit", f"tools: {error}; such rows are rejected")


CHECKS: tuple[Check, ...] = (
    single_turn,
    generation_prompt,
    begin_of_text,
    end_of_turn,
    round_trip,
    tokens_of_the_template,
    system_turn,
    several_turns,
    thinking,
    tools,
)


def _marks(text: str) -> set[str]:
    words = text.replace(">", "> ").replace("<", " <").replace("]", "] ").replace("[", " [").split()
    return {word for word in words if is_mark(word) and any(c.isalpha() for c in word)}
