"""Which standard sets there are, where their files lie, and how they were published to be judged.

A text `NAME=FOLDER` means a set: the folder is a copy of its repository, or the part of it that
holds the questions. `NAME:CATEGORY=FOLDER` takes one category's questions alone.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evals.files.opening.one_file import one_file
from evals.files.opening.places import is_remote
from evals.models.contenders import OutputsFile
from schemas.errors import ConfigError, MissingInputError

_TEXT = re.compile(
    r"(?P<name>[A-Za-z0-9._-]+)(?::(?P<category>[\w.-]+))?=(?P<folder>.+)", re.DOTALL
)
ANSWERS = "model_answer"


@dataclass(frozen=True)
class Standard:
    """A published set.

    Attributes:
        name: what people type.
        questions: names that the file may have.
        below: folders of a repository that may hold it, the folder itself first.
        baselines: whom models were published to be compared with, by category; None is all others.
        form: settings of a language model's judging that are nearest to the published ones.
        judging: how it was published to be judged: kept beside the scores, for people.
        temperatures: from which models were published to answer, by category; none where one
            temperature serves all.
        max_tokens: of the longest answer that was published; None where models had their own.
    """

    name: str
    questions: tuple[str, ...]
    below: tuple[str, ...]
    baselines: Mapping[str | None, str]
    form: Mapping[str, Any]
    judging: Mapping[str, Any] = field(default_factory=dict)
    temperatures: Mapping[str, float] = field(default_factory=dict)
    max_tokens: int | None = None

    @property
    def is_arena_hard(self) -> bool:
        """Whether its scores are Arena-Hard's."""
        return self.name.startswith("arena-hard")


_ARENA_JUDGING = {
    "verdicts": ["A>>B", "A>B", "A=B", "B>A", "B>>A"],
    "clear_verdict_weight": 3,
    "games": 2,
    "baseline_first_in_game": 1,
    "temperature": 0.0,
}
STANDARDS: Mapping[str, Standard] = {
    one.name: one
    for one in (
        Standard(
            "alpaca-eval",
            ("alpaca_eval_gpt4_baseline.json", "alpaca_eval.json"),
            ("", "data"),
            {None: "alpaca_eval_gpt4_baseline"},
            {"answer": "label"},
            {
                "judge_model": "gpt-4-1106-preview",
                "verdicts": ["m", "M"],
                "read_from": "log-probabilities of the two labels",
                "games": 1,
                "order": "drawn from the instruction's text",
                "temperature": 1.0,
                "max_tokens": 1,
            },
        ),
        Standard(
            "arena-hard-v0.1",
            ("question.jsonl",),
            ("", "arena-hard-v0.1", "data/arena-hard-v0.1"),
            {None: "gpt-4-0314"},
            {"answer": "scale"},
            {**_ARENA_JUDGING, "judge_model": "gpt-4-1106-preview", "max_tokens": 4096},
        ),
        Standard(
            "arena-hard-v2.0",
            ("question.jsonl",),
            ("", "arena-hard-v2.0", "data/arena-hard-v2.0"),
            {None: "o3-mini-2025-01-31", "creative_writing": "gemini-2.0-flash-001"},
            {"answer": "scale"},
            {**_ARENA_JUDGING, "judge_model": "gpt-4.1", "max_tokens": 16000},
        ),
        Standard(
            "mt-bench",
            ("question.jsonl",),
            ("", "mt_bench", "data/mt_bench", "fastchat/llm_judge/data/mt_bench"),
            {None: "gpt-3.5-turbo"},
            {"answer": "rating", "tie_within": 0.1, "references": "data"},
            {
                "judge_model": "gpt-4",
                "rating": [1, 10],
                "tie_within": 0.1,
                "in_pairs": {"verdicts": ["A", "B", "C"], "games": 2, "that_differ": "tie"},
                "turns": 2,
                "temperature": 0.0,
                "max_tokens": 2048,
                "reference_answers": ["math", "reasoning", "coding"],
            },
            {
                "writing": 0.7,
                "roleplay": 0.7,
                "extraction": 0.0,
                "math": 0.0,
                "coding": 0.0,
                "reasoning": 0.0,
                "stem": 0.1,
                "humanities": 0.1,
            },
            1024,
        ),
    )
}
_ALIASES = {
    "alpacaeval": "alpaca-eval",
    "alpaca_eval": "alpaca-eval",
    "arena-hard-v2": "arena-hard-v2.0",
    "mt_bench": "mt-bench",
}


@dataclass(frozen=True)
class StandardSet:
    """A standard and the folder in which its files were found; `category` is None for all."""

    standard: Standard
    questions: Path
    category: str | None

    @property
    def folder(self) -> Path:
        """Where the questions lie, and beside them the answers."""
        return self.questions.parent

    def answers(self, model: str) -> Path | None:
        """The file of a model's published answers; None where it is not there."""
        if self.standard.name == "alpaca-eval":
            places = [
                self.folder / f"{model}.json",
                self.folder.parent / "results" / model / "model_outputs.json",
                self.folder / "results" / model / "model_outputs.json",
            ]
        else:
            places = [self.folder / ANSWERS / f"{model}.jsonl"]
        return next((place for place in places if place.is_file()), None)

    def references(self) -> Path | None:
        """The file of the reference answers that judges were shown; None where there is none."""
        path = self.folder / "reference_answer" / f"{self.standard.judging['judge_model']}.jsonl"
        return path if "reference_answers" in self.standard.judging and path.is_file() else None

    def published(self, model: str) -> OutputsFile | None:
        """The published answers of a model; None where they are not there."""
        found = self.answers(model)
        return None if found is None else OutputsFile(outputs=str(found))

    def baseline(self) -> tuple[str, OutputsFile]:
        """The published baseline: its name, and its answers, which some categories have others for.

        Raises:
            MissingInputError: a file of them is not there.
        """
        named = dict(self.standard.baselines)
        whole = named.pop(None)
        if self.category in named:
            whole, named = named[self.category], {}
        elif self.category is not None:
            named = {}
        others = {str(category): str(self._needed(model)) for category, model in named.items()}
        name = " and ".join([whole, *named.values()])
        return name, OutputsFile(outputs=str(self._needed(whole)), by_category=others)

    def _needed(self, model: str) -> Path:
        found = self.answers(model)
        if found is None:
            raise MissingInputError(
                f"{self.folder}: has no answers of {model}, the baseline of {self.standard.name}; "
                f"put them there as {ANSWERS}/{model}.jsonl, name another --baseline, or take one "
                f"category alone, as {self.standard.name}:CATEGORY=FOLDER"
            )
        return found


def standard_set(text: str) -> StandardSet | None:
    """The set that `NAME=FOLDER` names; None where the text is no such thing.

    Raises:
        ConfigError: a name that is none.
        MissingInputError: the folder does not hold the questions.
    """
    found = _TEXT.fullmatch(text)
    if found is None or Path(text).expanduser().exists():
        return None
    name = _ALIASES.get(found["name"].lower(), found["name"].lower())
    if name not in STANDARDS:
        known = ", ".join(STANDARDS)
        raise ConfigError(f"{text}: no standard set is called {found['name']}; one of {known}")
    if is_remote(found["folder"]):
        raise ConfigError(f"{text}: a standard set is read from a folder; copy it here, name that")
    standard, root = STANDARDS[name], Path(found["folder"]).expanduser()
    for below in standard.below:
        for questions in standard.questions:
            if (root / below / questions).is_file():
                return StandardSet(standard, root / below / questions, found["category"])
    raise MissingInputError(
        f"{root}: no {' or '.join(standard.questions)} of {name} there, nor in "
        f"{', '.join(standard.below[1:])}; give the folder of its repository"
    )


def prompt_files(text: str) -> list[Path]:
    """The files that a setting's prompts are of: with those of a set's reference answers."""
    found = standard_set(text)
    beside = found.references() if found else None
    return [prompts_file(text), *([beside] if beside else [])]


def prompts_file(text: str) -> Path:
    """The file of prompts that a setting means: a standard set's questions, or the path it is.

    That of an address is fetched once.

    Raises:
        ConfigError, MissingInputError, DataError: no such set, or no such file.
        BackendError: a store cannot be reached.
    """
    found = standard_set(text)
    return found.questions if found else one_file(text, "file of prompts")
