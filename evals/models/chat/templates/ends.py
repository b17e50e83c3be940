"""The token that ends an assistant's turn, read off the turn as its template closes it."""

import re
from dataclasses import dataclass
from functools import cached_property

from evals.models.chat.templates.template import (
    CONTENT,
    SYSTEM,
    USER,
    VALUE,
    Asked,
    ChatTemplate,
    TemplateRefusal,
    probe,
    question,
)
from schemas.errors import ConfigError
from schemas.labels import Message

_BEGIN_END = (("begin", "end"), ("start", "end"), ("BEGIN", "END"), ("START", "END"))
_MARKER = re.compile(r"<[^<>\s]{2,60}>|\[/?[A-Z_]+\]")


@dataclass(frozen=True)
class End:
    """What ends a turn. `written` is False where the template closes it with no token of its own,
    and the tokenizer's end of text is put there.
    """

    text: str
    id: int
    written: bool = True


class Ends:
    """Ends of an assistant's turns: of an answer, and of a turn that ends with a tool call."""

    def __init__(self, template: ChatTemplate) -> None:
        self.template = template
        self._known: dict[tuple[str, bool], End] = {}

    def of(self, asked: Asked, *, calls: bool) -> End:
        """What ends an answer, or a turn that calls tools.

        Raises:
            ConfigError: nothing does, or a marker that the tokenizer does not have.
        """
        key = (asked.key, calls)
        if key not in self._known:
            self._known[key] = self._read(asked, calls)
        return self._known[key]

    @cached_property
    def tokens(self) -> dict[str, int]:
        """Tokens that may be structure: special ones, and added ones that look like marks."""
        tokenizer = self.template.tokenizer
        special = set(tokenizer.all_special_tokens)
        added = tokenizer.get_added_vocab()
        found = {t: i for t, i in added.items() if t.strip() and (t in special or is_mark(t))}
        named = {t: int(tokenizer.convert_tokens_to_ids(t)) for t in special if t.strip()}
        return {**found, **named}

    def _read(self, asked: Asked, calls: bool) -> End:
        word = VALUE if calls else CONTENT
        final = self._tail(probe(content=not calls, calls=calls), [], asked, word)
        follows: Message = {"role": "user", "content": USER}
        if calls:
            follows = {"role": "tool", "content": SYSTEM, "name": "zqcalledqz"}
        answer = probe(content=not calls, calls=calls)
        goes_on = self._tail(answer, [follows], asked, word)
        if final is None:
            return self._end_of_text()
        places = list(self._find(final))
        shared = [p for p in places if goes_on and goes_on.startswith(final[: p[1]])]
        if goes_on is None:
            shared = places
        found = shared[-1:] or places[:1]
        if found and not (calls and self._closes_a_call(final[slice(*found[0])], asked)):
            start, end = found[0]
            return End(final[start:end], self.tokens[final[start:end]])
        if calls:
            return self.of(asked, calls=False)
        single = self._single(final.strip())
        if single is not None:
            return End(final.strip(), single)
        if marker := _MARKER.search(final):
            raise ConfigError(
                f"{self.template.tokenizer.name_or_path}: the chat template ends a turn with "
                f"{marker[0]}, which is no token of the tokenizer; add the token and train its "
                "embedding, or use a chat_template that ends turns with a token it has, like "
                "role_colon"
            )
        return self._end_of_text()

    def _closes_a_call(self, token: str, asked: Asked) -> bool:
        """Whether a token closes what another has opened in the call, and not the turn."""
        turns = self.template.turns([question(), probe(calls=True)])
        text = self.template.write(turns, asked, header=False)
        head = text[: text.find(VALUE)]
        return any(closes(one, token) for one in self.tokens if one in head)

    def _tail(self, answer: Message, behind: list[Message], asked: Asked, word: str) -> str | None:
        turns = self.template.turns([question(), answer, *behind])
        try:
            text = self.template.write(turns, asked, header=False)
        except TemplateRefusal:
            return None
        at = text.rfind(word)
        return text[at + len(word) :] if at >= 0 else None

    def _find(self, text: str) -> list[tuple[int, int]]:
        if not self.tokens:
            return []
        pattern = "|".join(map(re.escape, sorted(self.tokens, key=len, reverse=True)))
        return [found.span() for found in re.finditer(pattern, text)]

    def _single(self, text: str) -> int | None:
        if not text or not is_mark(text):
            return None
        ids = self.template.tokenizer.encode(text, add_special_tokens=False)
        return int(ids[-1]) if len(ids) == 1 else None

    def _end_of_text(self) -> End:
        tokenizer = self.template.tokenizer
        if tokenizer.eos_token_id is None:
            raise ConfigError(
                f"{tokenizer.name_or_path}: nothing ends a turn: the chat template writes no token "
                "there, and the tokenizer has no end-of-text token"
            )
        return End(str(tokenizer.eos_token), int(tokenizer.eos_token_id), written=False)

    def next_headers(self, asked: Asked) -> list[int]:
        """Tokens that begin the next turn where the template closes none: a model stops there."""
        tail = self._tail(probe(content=True), [question()], asked, CONTENT)
        places = self._find(tail or "")
        return [self.tokens[(tail or "")[slice(*places[0])]]] if places else []


def closes(opening: str, token: str) -> bool:
    """Whether a mark ends the section that another begins: `<x>` and `</x>` and their like."""
    if opening == token:
        return False
    swapped = [opening.replace(a, b) for a, b in _BEGIN_END if a in opening]
    slashed = [opening[:1] + "/" + opening[1:], opening[:2] + "/" + opening[2:]]
    turned = f"<{opening[2:-1]}|>" if opening.startswith("<|") and opening[-2] != "|" else ""
    return token in (*swapped, *slashed, turned)


def is_mark(token: str) -> bool:
    """Whether a token looks like a mark and not like text: brackets of some kind around it."""
    return (
        len(token) > 2 and token[0] in "<[{|＜" and token[-1] in ">]}|＞" and token.strip() == token
    )
