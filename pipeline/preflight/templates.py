"""Whether the chat templates of local models can be used: the checks of `prefline doctor`.

They need transformers. `validate` loads nothing of that kind: it has them made by a child process,
and only where a recipe names a local model. `run` makes them itself.
"""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from evals.judges.kinds.reward_model import RewardModelJudge
from evals.models.checkpoints import ModelSource
from pipeline.preflight.models import has_template
from pipeline.preflight.places import sections_of
from pipeline.recipe import Recipe
from schemas.errors import BackendError, PipelineError

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "tokenizer_config.json")


def chat_models(recipe: Recipe) -> dict[str, ModelSource]:
    """The local models of a recipe that have a chat template, by where each is named first.

    Left out are reward models, and models that bring code of their own: nothing here runs that.
    """
    rewards = {f"{where}.model" for where, _ in sections_of(recipe, RewardModelJudge)}
    found: dict[str, ModelSource] = {}
    for where, source in sections_of(recipe, ModelSource):
        folder = Path(source.path)
        has_tokenizer = any((folder / file).is_file() for file in _TOKENIZER_FILES)
        known = where in rewards or source.trust_remote_code or source in found.values()
        if has_tokenizer and not known and has_template(source):
            found[where] = source
    return found


def template_problems(models: Mapping[str, ModelSource]) -> list[str]:
    """One line for each model with which every conversation would be wrong."""
    # Heavy: transformers is only loaded where there is a tokenizer to look at.
    from evals.models.chat.checks import sound_renderer
    from evals.models.checkpoints import load_tokenizer

    found = []
    for where, source in models.items():
        try:
            sound_renderer(load_tokenizer(source))
        except PipelineError as error:
            found.append(f"{where}: {error}")
    return found


def template_problems_in_a_child(models: Mapping[str, ModelSource]) -> list[str]:
    """The same, found by another process. Raises BackendError where it ends otherwise."""
    if not models:
        return []
    asked = json.dumps({where: source.model_dump(mode="json") for where, source in models.items()})
    command = [sys.executable, "-m", __name__]
    done = subprocess.run(command, input=asked, capture_output=True, text=True, check=False)
    try:
        said: list[str] = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        raise BackendError(
            f"the chat templates of {', '.join(models)} could not be looked at "
            f"({done.stderr.strip()[-300:] or f'exit code {done.returncode}'}); "
            "run `prefline doctor` on them"
        ) from None
    return said


if __name__ == "__main__":
    given = json.loads(sys.stdin.read())
    opened = {where: ModelSource.model_validate(source) for where, source in given.items()}
    sys.stdout.write(json.dumps(template_problems(opened)) + "\n")
