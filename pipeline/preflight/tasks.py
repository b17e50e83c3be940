"""Benchmarks that there are."""

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from pipeline.recipe import Recipe

OWN_TASKS = (
    "food_preference",
    "instruction_following",
    "judge_bench",
    "pairwise_win_rate",
    "preference_accuracy",
)
"""The benchmarks that come with this program."""


def unknown_tasks(recipe: Recipe) -> Iterator[str]:
    """Tasks of nobody, of a package that is not installed, or of a file that is not there."""
    for task in getattr(recipe.stages.get("evaluate"), "tasks", ()):
        file, at, _ = task.partition("@")
        package, slash, _ = task.partition("/")
        if at or file.endswith(".py"):
            if not Path(file).is_file():
                yield f"evaluate.tasks: {task}: no such file"
        elif slash:
            if find_spec(package) is None:
                yield f"evaluate.tasks: {task}: {package} is not installed; install it first"
        elif task not in OWN_TASKS:
            yield (
                f"evaluate.tasks: {task}: no such task; ours are {', '.join(OWN_TASKS)}, others "
                "are written PACKAGE/TASK or FILE.py@TASK"
            )
