"""A language model that judges by a rubric, untrained: in this process, or behind a server.

The rubrics are the text files in `rubrics/`; their content is part of the fingerprint.
"""

import json
import re
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from evals.judges.interface import Judge
from evals.judges.kinds.questions import AnswerForm, Form, Shown, said_by
from evals.judges.layout import LAYOUT_VERSION, Imitations
from evals.judges.openai.config import JudgeServer
from evals.judges.ratings.judges import PointwiseJudge, StreamingPointwiseJudge, TieRule
from evals.judges.ratings.reading import RatingReading
from evals.judges.scoring.config import LabelScoring, open_label_judge
from evals.judges.verdicts.folding import fold
from evals.judges.verdicts.grammar import FORMS, json_form, pattern_form
from evals.judges.verdicts.readings import Reading, Reads
from evals.models.checkpoints import ModelSource
from schemas.errors import DataError, MissingInputError
from schemas.ids import content_id, prompt_id
from schemas.labels import Comparison, Message
from schemas.stage import Runtime, implementation

RUBRICS = ("general", "helpfulness", "harmlessness", "instruction_following")
"""Rubrics that come with the project, each in a form for comparing and one for rating."""

DATA = "data"
"""References that come with the prompts."""

# What a server decides by itself.
_IN_THIS_PROCESS = (
    "dtype",
    "max_prompt_tokens",
    "engine",
    "overlong",
    "prefill",
    "max_reply_tokens",
)


class LlmJudge(LabelScoring):
    """An instruction-tuned model, given a rubric and asked for one of the three labels."""

    kind: Literal["llm"] = "llm"
    model: ModelSource | None = Field(
        None, description="the judge, in this process; of another family than the policy, best"
    )
    server: JudgeServer | None = Field(
        None, description="the judge, behind an OpenAI-compatible server; in place of model"
    )
    rubric: str = Field(
        "general",
        description="what to judge by: general, helpfulness, harmlessness, instruction_following, "
        "or a file of your own, like my.md; its content is part of the fingerprint",
    )
    answer: AnswerForm = Field(
        "label",
        description="label: one word, scored by its probability; reasoned: reasons first, then a "
        "verdict in words; scale: the same in five steps from A>>B to B>>A, a slight one counting "
        "0.75; criteria: a verdict by each of criteria; rating: every completion by itself, with "
        "whole numbers from 1 to 10, n questions a prompt, and the verdicts follow from them",
    )
    criteria: dict[str, float] = Field(
        {},
        description="with answer criteria: names and weights, like {correctness = 2, style = 1}; "
        "a label's probability is its share of the weights. With answer rating: the aspects, each "
        "rated, whose weighted mean decides; none asks for one rating",
    )
    tie_within: float = Field(
        0.0,
        ge=0,
        le=9,
        description="with answer rating: ratings that differ by at most this are a tie, the whole "
        "ones and those of each aspect",
    )
    examples: str | None = Field(
        None,
        description="file of examples that are shown as earlier turns: rows of prompt, "
        "completion_a, completion_b, verdict and perhaps reason; for answer rating of prompt, "
        "completion, ratings. Its content is part of the fingerprint",
    )
    references: str | None = Field(
        None,
        description="reference answers that the judge is shown: data takes the column reference "
        "of the prompts, else a file with prompt and reference, whose content is part of the "
        "fingerprint; a prompt without one is judged without, and counted",
    )
    max_reply_tokens: int | None = Field(
        None,
        ge=1,
        description="longest reply of a reasoned judge in this process; null takes 1024, and "
        "thinking_tokens more where the model's template knows thoughts",
    )
    verdict_pattern: str | None = Field(
        None,
        description="regular expression that finds the verdict in a reply, in its group verdict or "
        "its first one, in place of the usual forms; the last match counts",
    )
    verdict_key: str | None = Field(
        None, description="key of the JSON object that a reply states its verdict in, likewise"
    )
    show_reasoning: bool = Field(
        False, description="show the judge the completions' own reasoning too, not answers alone"
    )
    thinking_tokens: int = Field(
        4096,
        ge=1,
        description="room for the thoughts of a model that thinks before it answers, beside the "
        "answer's own",
    )

    @field_validator("rubric")
    @classmethod
    def _known_or_a_file(cls, rubric: str) -> str:
        if rubric not in RUBRICS and not Path(rubric).suffix:
            raise ValueError(f"one of {', '.join(map(repr, RUBRICS))}, or a file like my.md")
        return rubric

    @field_validator("criteria")
    @classmethod
    def _named(cls, criteria: dict[str, float]) -> dict[str, float]:
        names = [fold(name).strip().casefold() for name in criteria]
        if not all(names) or len(set(names)) < len(names):
            raise ValueError("each criterion needs a name of its own")
        return criteria

    @field_validator("verdict_pattern")
    @classmethod
    def _a_pattern(cls, pattern: str | None) -> str | None:
        try:
            re.compile(pattern or "")
        except re.error as error:
            raise ValueError(f"no regular expression: {error}") from None
        return pattern

    @model_validator(mode="after")
    def _one_of_model_and_server(self) -> "LlmJudge":
        if (self.model is None) == (self.server is None):
            raise ValueError("give model, for a judge in this process, or server, and not both")
        self._criteria_and_their_answer()
        named = self.answer in ("scale", "criteria") or (self.answer == "rating" and self.criteria)
        if named and (self.verdict_pattern or self.verdict_key):
            raise ValueError(
                "verdict_pattern, verdict_key: belong to answer label, reasoned, or rating "
                "without criteria"
            )
        if self.prefill and self.answer != "label":
            raise ValueError("prefill: belongs to answer label; reasons begin by themselves")
        for name in _IN_THIS_PROCESS if self.server else ():
            if getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"{name}: is the server's own business; leave it out")
        return self

    def _criteria_and_their_answer(self) -> None:
        if (self.answer == "criteria" and not self.criteria) or (
            self.criteria and self.answer not in ("criteria", "rating")
        ):
            raise ValueError(
                'criteria: give them with answer = "criteria" or "rating", and only there'
            )
        if any(weight <= 0 for weight in self.criteria.values()):
            raise ValueError("criteria: a weight is above 0")
        if self.tie_within and self.answer != "rating":
            raise ValueError('tie_within: belongs to answer = "rating"')

    def chat(self, comparison: Comparison) -> list[Message]:
        """One user turn: rubric, prompt, completions, and what to answer; examples before it.

        A judge that rates is shown completion A alone.
        """
        turns: list[Message] = []
        for example in self._examples:
            turns.append(said_by("user", self._sections(example.comparison, is_example=True)))
            turns.append(said_by("assistant", example.answer))
        turns.append(said_by("user", self._sections(comparison)))
        turns[0] = said_by("user", f"{self._rubric}\n{turns[0]['content']}")
        return turns

    def _sections(self, shown: Comparison, is_example: bool = False) -> str:
        own = shown.reference if is_example and self.references else None
        reference = own if is_example else self._reference_of(shown)
        return self._form.section_text(shown, reference, self._imitations)

    def _reference_of(self, comparison: Comparison) -> str | None:
        if self.references == DATA:
            return comparison.reference
        return self._references.get(prompt_id(comparison.prompt)) if self.references else None

    def with_reference(self, comparison: Comparison) -> bool | None:
        """Whether a reference answer is shown; None for a judge that is shown none."""
        return self._reference_of(comparison) is not None if self.references else None

    @property
    def layout(self) -> str:
        """The layout's version and the content of the rubric, the examples and the references."""
        beside = [pattern.pattern for pattern in self._imitations]
        beside += [json.dumps(self._shown_example(example)) for example in self._examples]
        beside += [f"{key}={text}" for key, text in sorted(self._references.items())]
        return content_id("rubric", LAYOUT_VERSION, self._rubric, self._form.told, *beside)

    def _shown_example(self, example: Shown) -> list[str]:
        return [self._sections(example.comparison, is_example=True), example.answer]

    def open(self, folder: Path | None, runtime: Runtime) -> Judge:
        """Load the model, or get ready to call the server.

        Raises:
            ConfigError: the environment has no key under the name that the settings give.
            What loading a model raises.
        """
        name = f"llm:{self.rubric if self.rubric in RUBRICS else Path(self.rubric).stem}"
        self.own_files()
        if self.answer == "rating":
            return self._pointwise(name, folder, runtime)
        if self.model is not None and self.answer == "label":
            return open_label_judge(name, self, self.model, runtime)
        judge: Judge = self._asked(name, folder, runtime)
        return judge

    def _asked(self, name: str, folder: Path | None, runtime: Runtime) -> Any:
        """Who writes the replies: the model in this process, or the server."""
        if self.model is not None:
            reasoned = implementation("evals.judges.scoring.reasoned:ReasonedJudge")
            return reasoned(name, self, self.model, runtime)
        return implementation("evals.judges.openai.opening:open_served")(
            name, self, folder, runtime
        )

    def _pointwise(self, name: str, folder: Path | None, runtime: Runtime) -> Judge:
        rule = TieRule(self.tie_within, self.criteria)
        kind = PointwiseJudge if self.model is not None else StreamingPointwiseJudge
        return kind(self._asked(name, folder, runtime), rule)

    @cached_property
    def reading(self) -> Reads:
        """How replies are read: in the usual forms, or as the settings say."""
        if self.answer == "rating":
            return RatingReading(self.criteria, self.verdict_pattern, self.verdict_key)
        own = [pattern_form(self.verdict_pattern)] if self.verdict_pattern else []
        own += [json_form([self.verdict_key])] if self.verdict_key else []
        return Reading(tuple(own) or FORMS, self.answer == "scale", self.criteria)

    @property
    def pointwise(self) -> bool:
        """Whether every completion is judged by itself."""
        return self.answer == "rating"

    @property
    def reminder(self) -> str:
        """What is said where a reply states nothing that can be read."""
        return self._form.reminder

    @cached_property
    def _form(self) -> Form:
        return Form(self.answer, tuple(self.criteria), self.show_reasoning)

    @cached_property
    def _imitations(self) -> Imitations:
        return self._form.imitations(self.references is not None)

    def own_files(self) -> list[Path]:
        """The user's own files, whose content belongs into a fingerprint.

        Raises:
            MissingInputError: one is not there.
        """
        named = {
            "examples": self.examples,
            "references": None if self.references == DATA else self.references,
        }
        beside = [_own_file(text, name) for name, text in named.items() if text is not None]
        return [*self.rubric_files(), *beside]

    def rubric_files(self) -> list[Path]:
        """The user's own rubric, if it is one. Raises MissingInputError where it is not there."""
        return [] if self.rubric in RUBRICS else [_own_file(self.rubric, "rubric")]

    @cached_property
    def _examples(self) -> list[Shown]:
        if self.examples is None:
            return []
        read = implementation("evals.judges.kinds.few_shot:read_examples")
        found: list[Shown] = read(_own_file(self.examples, "examples"), self._form)
        return found

    @cached_property
    def _references(self) -> dict[str, str]:
        if self.references in (None, DATA):
            return {}
        read = implementation("evals.judges.kinds.references:read_references")
        found: dict[str, str] = read(_own_file(str(self.references), "references"))
        return found

    @cached_property
    def _rubric(self) -> str:
        if self.rubric in RUBRICS:
            folder = Path(__file__).parents[1] / "rubrics"
            path = folder / f"{self.rubric}{'.rating' if self.pointwise else ''}.md"
        else:
            path = _own_file(self.rubric, "rubric")
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeError) as error:
            raise DataError(f"{path}: cannot be read as UTF-8 text ({error})") from error
        if not text.strip():
            raise DataError(f"{path}: is empty; write what to judge by")
        return text.rstrip("\n") + "\n"


def _own_file(text: str, name: str) -> Path:
    """Raises MissingInputError where there is no such file."""
    path = Path(text).expanduser()
    if not path.is_file():
        what = {"rubric": "rubric", "examples": "file of examples", "references": "file of"}[name]
        what = f"{what} references" if name == "references" else what
        raise MissingInputError(f"{text}: no such {what}; correct judge.{name}")
    return path
