"""A language model that judges by a rubric, untrained: in this process, or behind a server.

The rubrics are the text files in `rubrics/`; their content is part of the fingerprint.
"""

import json
import re
from collections.abc import Mapping
from functools import cached_property
from itertools import cycle
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator

from evals.judges.interface import Judge
from evals.judges.layout import (
    LAYOUT_VERSION,
    SECTION_A,
    SECTION_B,
    SECTION_PREFERENCE,
    SECTION_PROMPT,
    neutralise,
    text_of,
)
from evals.judges.openai.config import JudgeServer
from evals.judges.scoring.config import LabelScoring, open_label_judge
from evals.judges.verdicts.grammar import FORMS, json_form, pattern_form
from evals.judges.verdicts.readings import Reading
from evals.models.checkpoints import ModelSource
from schemas.errors import DataError, MissingInputError
from schemas.ids import content_id
from schemas.labels import Comparison, Message, Messages
from schemas.stage import Runtime, implementation

RUBRICS = ("general", "helpfulness", "harmlessness", "instruction_following")
"""Rubrics that come with the project."""

_ANSWERS = {
    "label": "Answer with one word: A, B or Tie.",
    "reasoned": (
        "Compare them in a few sentences. Then end with a line that is one of\n"
        "Verdict: A\nVerdict: B\nVerdict: Tie"
    ),
    "scale": (
        "Compare them in a few sentences. Then end with a line that is one of\n"
        "[[A>>B]] A is clearly better\n[[A>B]] A is slightly better\n[[A=B]] neither is better\n"
        "[[B>A]] B is slightly better\n[[B>>A]] B is clearly better"
    ),
    "criteria": (
        "Compare them by each of these criteria, in a sentence each: {criteria}. Then end with one "
        "line of JSON that says for each who is better, A, B or Tie, like\n{example}"
    ),
}
_REMINDERS = {
    "label": "That was no answer. Answer with one word: A, B or Tie.",
    "reasoned": "State your verdict in one line: Verdict: A, Verdict: B or Verdict: Tie.",
    "scale": "State your verdict in one line: [[A>>B]], [[A>B]], [[A=B]], [[B>A]] or [[B>>A]].",
    "criteria": "State who is better by each criterion in one line of JSON like\n{example}",
}


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
    answer: Literal["label", "reasoned", "scale", "criteria"] = Field(
        "label",
        description="label: one word, scored by its probability; reasoned: reasons first, then a "
        "verdict in words; scale: the same in five steps from A>>B to B>>A, a slight one counting "
        "0.75; criteria: a verdict by each of criteria",
    )
    criteria: dict[str, float] = Field(
        {},
        description="with answer criteria: names and weights, like {correctness = 2, style = 1}; "
        "a label's probability is its share of the weights",
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
        if (self.answer == "criteria") != bool(self.criteria):
            raise ValueError('criteria: give them with answer = "criteria", and only there')
        if any(weight <= 0 for weight in self.criteria.values()):
            raise ValueError("criteria: a weight is above 0")
        if self.answer not in ("label", "reasoned") and (self.verdict_pattern or self.verdict_key):
            raise ValueError("verdict_pattern, verdict_key: belong to answer label or reasoned")
        if self.prefill and self.answer != "label":
            raise ValueError("prefill: belongs to answer label; reasons begin by themselves")
        for name in _IN_THIS_PROCESS if self.server else ():
            if getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"{name}: is the server's own business; leave it out")
        return self

    def chat(self, comparison: Comparison) -> list[Message]:
        """One user turn: rubric, prompt, both completions, and what to answer."""
        sections = (
            (SECTION_PROMPT, _conversation(comparison.prompt)),
            (SECTION_A, text_of(neutralise(comparison.completion_a, self.show_reasoning))),
            (SECTION_B, text_of(neutralise(comparison.completion_b, self.show_reasoning))),
            (SECTION_PREFERENCE, self._told(_ANSWERS)),
        )
        body = "\n\n".join(f"{title}\n{text}" for title, text in sections)
        return [{"role": "user", "content": f"{self._rubric}\n{body}"}]

    @property
    def layout(self) -> str:
        """The layout's version and the rubric's content."""
        return content_id("rubric", LAYOUT_VERSION, self._rubric, self._told(_ANSWERS))

    def open(self, folder: Path | None, runtime: Runtime) -> Judge:
        """Load the model, or get ready to call the server.

        Raises:
            ConfigError: the environment has no key under the name that the settings give.
            What loading a model raises.
        """
        name = f"llm:{self.rubric if self.rubric in RUBRICS else Path(self.rubric).stem}"
        self.rubric_files()
        if self.model is not None and self.answer == "label":
            return open_label_judge(name, self, self.model, runtime)
        if self.model is not None:
            reasoned: Judge = implementation("evals.judges.scoring.reasoned:ReasonedJudge")(
                name, self, self.model, runtime
            )
            return reasoned
        judge: Judge = implementation("evals.judges.openai.opening:open_served")(
            name, self, folder, runtime
        )
        return judge

    @cached_property
    def reading(self) -> Reading:
        """How replies are read: in the usual forms, or as the settings say."""
        own = [pattern_form(self.verdict_pattern)] if self.verdict_pattern else []
        own += [json_form([self.verdict_key])] if self.verdict_key else []
        return Reading(tuple(own) or FORMS, self.answer == "scale", self.criteria)

    @property
    def reminder(self) -> str:
        """What is said where a reply states no verdict."""
        return self._told(_REMINDERS)

    def _told(self, texts: Mapping[str, str]) -> str:
        text = texts[self.answer]
        if not self.criteria:
            return text
        example = json.dumps(dict(zip(self.criteria, cycle(("A", "B", "Tie")), strict=False)))
        named = ", ".join(self.criteria)
        return text.replace("{criteria}", named).replace("{example}", example)

    def rubric_files(self) -> list[Path]:
        """The user's own file, whose content belongs into a fingerprint.

        Raises:
            MissingInputError: it is not there.
        """
        if self.rubric in RUBRICS:
            return []
        path = Path(self.rubric).expanduser()
        if not path.is_file():
            raise MissingInputError(f"{self.rubric}: no such rubric; correct judge.rubric")
        return [path]

    @cached_property
    def _rubric(self) -> str:
        own = self.rubric_files()
        path = own[0] if own else Path(__file__).parents[1] / "rubrics" / f"{self.rubric}.md"
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeError) as error:
            raise DataError(f"{path}: cannot be read as UTF-8 text ({error})") from error
        if not text.strip():
            raise DataError(f"{path}: is empty; write what to judge by")
        return text.rstrip("\n") + "\n"


def _conversation(prompt: Messages) -> str:
    """A single user turn as it stands; a longer prompt with who says what."""
    turns = neutralise(prompt)
    if len(turns) == 1:
        return turns[0]["content"]
    return "\n\n".join(f"[{turn['role']}] {turn['content']}" for turn in turns)
