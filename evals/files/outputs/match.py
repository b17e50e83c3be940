"""Which output answers which prompt: by the prompt's text, else by the question's own name."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from evals.files.outputs.outputs import GivenOutput
from evals.files.outputs.prompts import GivenPrompt
from schemas.labels import Message


@dataclass(frozen=True)
class Answer:
    """One completion of a prompt, the sample's number, and where in the file it stands."""

    completion: Sequence[Message]
    sample_index: int
    row: int
    num_tokens: int | None
    finish_reason: str | None


@dataclass(frozen=True)
class Matched:
    """`answers` by the prompt's id; `unused` are rows whose prompt nobody has asked for."""

    answers: dict[str, list[Answer]]
    unused: list[int]


def match(prompts: Iterable[GivenPrompt], outputs: Iterable[GivenOutput]) -> Matched:
    """Give every output to its prompt; several of one prompt are its samples, in file order.

    Texts are compared without space at either end. An output whose row names no prompt is found
    by the question's name, which both files must give. Null outputs are none.
    """
    places = list({prompt.prompt_id: prompt for prompt in prompts}.values())
    by_text = {_text(p.prompt, p.turn, p.question): p for p in places}
    by_key: dict[tuple[str | None, int], GivenPrompt] = {
        (p.key, p.turn): p for p in places if p.key is not None
    }
    answers: dict[str, list[Answer]] = defaultdict(list)
    unused: list[int] = []
    for output in outputs:
        used = False
        for turn in range(len(output.turns)):
            prompt = _find(output, turn, by_text, by_key)
            if prompt is None:
                continue
            used = True
            completion = _completion(output, turn, prompt, by_key)
            if completion is not None:
                found = answers[prompt.prompt_id]
                tokens = output.num_tokens if not turn else None
                found.append(
                    Answer(completion, len(found), output.row, tokens, output.finish_reason)
                )
        if not used:
            unused.append(output.row)
    return Matched(dict(answers), unused)


def _find(
    output: GivenOutput,
    turn: int,
    by_text: dict[str, GivenPrompt],
    by_key: Mapping[tuple[str | None, int], GivenPrompt],
) -> GivenPrompt | None:
    if output.prompts:
        asked = next((p for p in output.prompts if p.turn == turn), None)
        found = by_text.get(_text(asked.prompt, turn, asked.question)) if asked else None
        return found
    return by_key.get((output.key, turn))


def _completion(
    output: GivenOutput,
    turn: int,
    prompt: GivenPrompt,
    by_key: Mapping[tuple[str | None, int], GivenPrompt],
) -> list[Message] | None:
    """The answer; that to a later question with the conversation which leads to it."""
    said: list[Message] = []
    for number in range(turn + 1):
        text = output.turns[number]
        if text is None:
            return None
        if number:
            asked = prompt if number == turn else by_key.get((prompt.key, number))
            if asked is None or asked.question is None:
                return None
            said.append(asked.question)
        said.append({"role": "assistant", "content": text})
    return said


def _text(prompt: Sequence[Message], turn: int, question: Message | None) -> str:
    parts = [(m["role"], m["content"].strip()) for m in prompt]
    return repr((turn, parts, question["content"].strip() if question else None))
