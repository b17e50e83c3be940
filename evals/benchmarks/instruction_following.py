"""Verifiable instructions: own prompts, checked by the IFEval paper's rules.

(J. Zhou et al. 2023, arXiv 2311.07911.) The checkers are those of the package `if-verifiable`; the
prompts are ours, of the kinds of instruction that need no further data. Numbers are therefore not
comparable with published IFEval ones: for those, run `inspect_evals/ifeval`.
"""

import json
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from schemas.errors import ConfigError

PROMPTS_FILE = Path(__file__).with_name("instruction_prompts.json")
PACKAGE = "if-verifiable"

Row = Mapping[str, Any]


def instruction_prompts() -> list[dict[str, Any]]:
    """`{key, prompt, instruction_id_list, kwargs}` of every prompt, in IFEval's own form."""
    rows: list[dict[str, Any]] = json.loads(PROMPTS_FILE.read_bytes())
    return rows


def follows(row: Row, response: str) -> dict[str, float]:
    """How far a response follows the instructions of a prompt, each a share in [0, 1].

    `prompt_strict` is 1 where all are followed, `instruction_strict` the share of them; the loose
    ones forgive a first line, a last line and markdown's asterisks.

    Raises:
        ConfigError: the checkers' package is not installed.
    """
    checkers = _checkers()
    sample = checkers.IFEvalSample(
        key=row["key"],
        prompt=row["prompt"],
        instruction_id_list=row["instruction_id_list"],
        kwargs=row["kwargs"],
    )
    _, scores = checkers.evaluate_output_for_sample("ifeval", sample, response)
    return {
        "prompt_strict": scores.binary_strict,
        "prompt_loose": scores.binary_loose,
        "instruction_strict": scores.partial_strict,
        "instruction_loose": scores.partial_loose,
    }


def require_checkers() -> None:
    """Raise ConfigError where the checkers' package is not installed."""
    _checkers()


@cache
def _checkers() -> Any:
    try:
        checkers = import_module("if_verifiable")
        detection = import_module("langdetect")
    except ImportError as error:
        raise ConfigError(
            f"instruction_following: its checkers come with {PACKAGE}, which is not installed "
            f"({error}); pip install {PACKAGE}"
        ) from error
    # Language detection draws at random: the same text must always be of the same language.
    detection.DetectorFactory.seed = 0
    return checkers
