"""Benchmarks that there are."""

import re
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
            name = task.partition("@")[2]
            if not Path(file).is_file():
                yield f"evaluate.tasks: {task}: no such file"
            elif name and not _defines(Path(file), name):
                yield f"evaluate.tasks: {task}: {file} defines no task {name}"
        elif slash:
            if find_spec(package) is None:
                yield f"evaluate.tasks: {task}: {package} is not installed; install it first"
            elif not _has(package, task.partition("/")[2].partition("@")[0]):
                yield f"evaluate.tasks: {task}: {package} is installed and defines no such task"
        elif task not in OWN_TASKS:
            yield (
                f"evaluate.tasks: {task}: no such task; ours are {', '.join(OWN_TASKS)}, others "
                "are written PACKAGE/TASK or FILE.py@TASK"
            )


def _has(package: str, task: str) -> bool:
    """Whether a package's sources, which are not run, define a function of a task's name."""
    found = find_spec(package)
    folders = found.submodule_search_locations if found else None
    files = [file for folder in folders or () for file in Path(folder).rglob("*.py")]
    # A package that is no folder of sources cannot be looked into.
    return not files or any(_defines(file, task) for file in files)


def _defines(file: Path, task: str) -> bool:
    try:
        source = file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return True
    named = rf"def {re.escape(task)}\b|name\s*=\s*[\"']{re.escape(task)}[\"']"
    return re.search(named, source) is not None
