"""Rules that leave rows out, each under its own name and with a reason for every row.

A rule looks at one example and either lets it pass or says why not. Rules that speak of two
completions let demonstrations and prompts pass.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, field_validator

from schemas.errors import DataError
from schemas.labels import Messages, Preference
from schemas.stage import Config
from stages.ingest.examples import (
    ComparisonExample,
    DemonstrationExample,
    Example,
    RowError,
)

if TYPE_CHECKING:
    from tokenizers import Tokenizer


class _Rule(Config):
    sources: list[str] | None = Field(
        None, description="the sources it is for, by name; null is for all of them"
    )

    def reject(self, example: Example, source: str) -> RowError | None:
        """Why the example of this source is left out, or None."""
        if self.sources is not None and source not in self.sources:
            return None
        found = self._found(example)
        return RowError(self.reason, found) if found else None

    @property
    def reason(self) -> str:
        """The code under which rejects are counted."""
        return str(getattr(self, "kind", ""))

    def _found(self, example: Example) -> str | None:
        raise NotImplementedError


class LengthRatio(_Rule):
    """Completions so unequal in length that length is what will be learned."""

    kind: Literal["length_ratio"] = Field("length_ratio", description="one side is far longer")
    max_ratio: float = Field(4.0, gt=1, description="longest over shortest, in characters")

    def _found(self, example: Example) -> str | None:
        if not isinstance(example, ComparisonExample):
            return None
        short, long = sorted(map(len, completions(example)))
        return f"{long} to {short} characters" if long > self.max_ratio * short else None


class Language(_Rule):
    """Rows by the language tag that the source gives; nothing is guessed."""

    kind: Literal["language"] = Field("language", description="the source's language tag")
    allowed: list[str] = Field(min_length=1, description="tags that pass, in any case")
    untagged: Literal["keep", "reject"] = Field("keep", description="what becomes of rows without")

    def _found(self, example: Example) -> str | None:
        if example.language is None:
            return "no language tag" if self.untagged == "reject" else None
        allowed = {tag.lower() for tag in self.allowed}
        return None if example.language.lower() in allowed else f"tagged {example.language}"


class Empty(_Rule):
    """Texts without one letter or digit; texts without any character are always rejected."""

    kind: Literal["empty"] = Field("empty", description="a text without a letter or digit")

    def _found(self, example: Example) -> str | None:
        texts = {"prompt": text(example.prompt)} | {
            f"completion {i}": said for i, said in enumerate(completions(example), 1)
        }
        bare = [name for name, said in texts.items() if not any(c.isalnum() for c in said)]
        return f"{', '.join(bare)} without a letter or digit" if bare else None


class Identical(_Rule):
    """Completions that differ in case, spaces or punctuation only."""

    kind: Literal["identical"] = Field("identical", description="both sides say the same words")

    def _found(self, example: Example) -> str | None:
        if not isinstance(example, ComparisonExample):
            return None
        first, second = (re.findall(r"\w+", side.lower()) for side in completions(example))
        return "the completions are the same words" if first == second and first else None


_REFUSAL = re.compile(
    r"\W*(?:(?:i['’]?m|i am) (?:very |so |really )?sorry|sorry|(?:i )?apologi[sz]e|unfortunately|"
    r"as an ai\b|as a language model|i (?:can(?:no|['’])?t|am unable to|['’]?m unable to|"
    r"won['’]?t|will not|must decline|do not feel comfortable|don['’]?t feel comfortable)|"
    r"i['’]?m (?:unable|not able) to)",
    re.IGNORECASE,
)
_DENIAL = re.compile(
    r"can(?:no|['’])?t|unable|not able|won['’]?t|will not|decline|comfortable|as an ai|"
    r"language model|against my",
    re.IGNORECASE,
)
_OPENING = 200


def is_refusal(said: str) -> bool:
    """Whether an answer opens as a refusal: an apology or "as an AI", with a denial soon after."""
    opening = said[:_OPENING]
    return bool(_REFUSAL.match(opening) and _DENIAL.search(opening))


class RefusalPairs(_Rule):
    """Pairs that teach to refuse, or that have nothing else to teach."""

    kind: Literal["refusal_pairs"] = Field("refusal_pairs", description="answers that refuse")
    where: Literal["chosen", "rejected", "both", "either"] = Field(
        "both", description="which side must refuse for the row to be left out"
    )

    def _found(self, example: Example) -> str | None:
        if not isinstance(example, ComparisonExample):
            return None
        a, b = map(is_refusal, completions(example))
        chosen, rejected = (b, a) if example.label is Preference.B else (a, b)
        if example.label is Preference.TIE and self.where in ("chosen", "rejected"):
            return None
        refused = {"chosen": chosen, "rejected": rejected, "both": a and b, "either": a or b}
        return f"{self.where} refused" if refused[self.where] else None


class MinMargin(_Rule):
    """Comparisons whose strength, in the source's own units, is too small; ties have none."""

    kind: Literal["min_margin"] = Field("min_margin", description="strength of the preference")
    min_margin: float = Field(gt=0, description="least strength that passes")
    unknown: Literal["keep", "reject"] = Field("keep", description="where the source is silent")

    def _found(self, example: Example) -> str | None:
        if not isinstance(example, ComparisonExample):
            return None
        if example.label is Preference.TIE:
            return "a tie"
        if example.strength is None:
            return "no strength" if self.unknown == "reject" else None
        strong = example.strength >= self.min_margin
        return None if strong else f"strength {example.strength:g} below {self.min_margin:g}"


class MaxCharacters(_Rule):
    """Prompt and longest completion together, in characters."""

    kind: Literal["max_characters"] = Field("max_characters", description="length in characters")
    limit: int = Field(ge=1, description="most characters of prompt and longest completion")

    def _found(self, example: Example) -> str | None:
        longest = max(map(len, completions(example)), default=0)
        total = len(text(example.prompt)) + longest
        return f"{total} characters, at most {self.limit}" if total > self.limit else None


class MaxTokens(_Rule):
    """Prompt and longest completion together, in a tokenizer's tokens, template not counted."""

    kind: Literal["max_tokens"] = Field("max_tokens", description="length in tokens")
    limit: int = Field(ge=1, description="most tokens of prompt and longest completion")
    tokenizer: str = Field(description="a tokenizer.json, or the folder of a model that has one")

    @field_validator("tokenizer")
    @classmethod
    def _file(cls, value: str) -> str:
        path = Path(value).expanduser()
        return str(path / "tokenizer.json" if path.is_dir() else path)

    def _found(self, example: Example) -> str | None:
        prompt, *answers = self._lengths([text(example.prompt), *completions(example)])
        total = prompt + max(answers, default=0)
        return f"{total} tokens, at most {self.limit}" if total > self.limit else None

    def _lengths(self, texts: Sequence[str]) -> list[int]:
        encoded = _tokenizer(self.tokenizer).encode_batch(list(texts), add_special_tokens=False)
        return [len(one.ids) for one in encoded]


@lru_cache(maxsize=2)
def _tokenizer(path: str) -> "Tokenizer":
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_file(path)
    except Exception as error:  # the library raises bare Exception for everything
        raise DataError(
            f"{path}: not a tokenizer ({str(error)[:80]}); set max_tokens' tokenizer"
        ) from error


Filter = Annotated[
    LengthRatio
    | Language
    | Empty
    | Identical
    | RefusalPairs
    | MinMargin
    | MaxCharacters
    | MaxTokens,
    Field(discriminator="kind"),
]


def screen(filters: Sequence[Any], example: Example, source: str) -> RowError | None:
    """What the first rule that objects says, or None where the example passes all of them."""
    for rule in filters:
        found: RowError | None = rule.reject(example, source)
        if found is not None:
            return found
    return None


def text(messages: Messages) -> str:
    """All turns of a conversation as one text, a line feed between them."""
    return "\n".join(message["content"] for message in messages)


def completions(example: Example) -> list[str]:
    """The texts of the answers: two of a comparison, one of a demonstration, none of a prompt."""
    if isinstance(example, ComparisonExample):
        return [text(example.completion_a), text(example.completion_b)]
    return [text(example.completion)] if isinstance(example, DemonstrationExample) else []
