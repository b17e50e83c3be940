"""A comparison from its contenders to its leaderboard, by way of a run directory."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evals.files.standards.sets import Standard, StandardSet, standard_set
from evals.judges import JudgeKind
from evals.judges.judge_spec import judge_settings, saved_judge
from evals.judges.kinds.llm import LlmJudge
from pipeline.commands.judging.comparing.entrants import entrants, recipe_tree, samples
from pipeline.commands.judging.comparing.leaderboard import leaderboard
from pipeline.commands.named_run import begin_run, incomplete
from pipeline.commands.runs.run import run_recipe

MAX_TOKENS, TEMPERATURE = 512, 0.7
"""How models answer, where neither the user nor a standard set says it."""


@dataclass(frozen=True)
class Wishes:
    """How a comparison is made, where it matters."""

    prompts: str | None = None
    baseline: str | None = None
    run_dir: Path | None = None
    n: int | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    tasks: Sequence[str] = ()
    all_pairs: bool = True
    chat_template: str | None = None
    api_key_env: str | None = None
    runtime: Mapping[str, Any] = field(default_factory=dict)


def compare_contenders(texts: Sequence[str], judge: str, wishes: Wishes) -> dict[str, Any]:
    """Run the comparison, or what is missing of it; the leaderboard, with `page` and `recipe`.

    Raises:
        PipelineError: what the user can mend.
    """
    standard = standard_set(wishes.prompts) if wishes.prompts else None
    entered = entrants(texts, wishes.baseline, wishes.api_key_env, wishes.chat_template, standard)
    names = [entrant.name for entrant in entered]
    judged_by = judge_settings(judge, wishes.api_key_env)
    directory = (
        wishes.run_dir or Path("runs") / f"compare-{_slug('-'.join([*names[1:], names[0]]))}"
    )
    tree = recipe_tree(
        entered,
        name=directory.name,
        judge=judged_by.model_dump(mode="json", exclude_defaults=True)
        | {"kind": judged_by.kind}
        | _form_of_answer(judge, judged_by, standard),
        prompts=wishes.prompts,
        evaluate={
            "n": samples(entered, wishes.n),
            **_answering(wishes, standard.standard if standard else None),
            "tasks": list(wishes.tasks) or None,
            "all_pairs": (wishes.all_pairs and len(entered) > 2) or None,
        },
        runtime=wishes.runtime,
        title=f"{', '.join(names[1:])} over {names[0]}, judged by {_short(judge, judged_by)}",
    )
    recipe = begin_run(tree, directory)
    last = run_recipe(recipe, directory)
    found = leaderboard(last.directory / "evaluate", entered)
    page = last.directory / "report" / "index.html"
    places = {"page": str(page), "recipe": str(recipe.path)}
    return {**found, **places, "incomplete": incomplete(last)}


def _answering(wishes: Wishes, standard: Standard | None) -> dict[str, Any]:
    """How models answer: as wished, else as a standard set was published, else our way."""
    published = standard.max_tokens if standard else None
    own = wishes.temperature is None and standard is not None
    return {
        "max_tokens": wishes.max_tokens or published or MAX_TOKENS,
        "temperature": TEMPERATURE if wishes.temperature is None else wishes.temperature,
        "temperatures": (dict(standard.temperatures) if own and standard else None) or None,
    }


def _form_of_answer(
    judge: str, settings: JudgeKind, standard: StandardSet | None
) -> dict[str, Any]:
    """A language model named by a word answers in the form that is nearest to the set's own."""
    plain = isinstance(settings, LlmJudge) and not judge.lstrip().startswith("{")
    return dict(standard.standard.form) if standard and plain and not saved_judge(judge) else {}


def _short(judge: str, settings: JudgeKind) -> str:
    """The judge as it was typed; settings written out are told by who judges, and how."""
    if not judge.lstrip().startswith("{"):
        return judge
    server, model = (getattr(settings, name, None) for name in ("server", "model"))
    who = server.model if server else model.path if model else settings.kind
    return f"{who}, by ratings" if getattr(settings, "pointwise", False) else str(who)


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-.")[:80]
