"""The models of an evaluation: the baseline, the policy, and whoever else is compared with it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evals.models.chat.templates.named_templates import template_file
from evals.models.checkpoints import ModelSource
from evals.models.contenders import (
    ContenderSource,
    OutputsFile,
    contender_fingerprint,
    contender_name,
)
from schemas.errors import ConfigError, MissingInputError
from schemas.hashes import known_sha256
from schemas.manifest import read_manifest
from schemas.results.base import read_result
from schemas.results.training import CheckpointRecord
from schemas.stage import StageContext
from stages.evaluate.config import BASELINE, POLICY, EvaluateConfig


@dataclass(frozen=True)
class Contestant:
    """A model, its name in this evaluation, and the fingerprint of its weights."""

    name: str
    source: ContenderSource
    fingerprint: str

    @property
    def writes_as(self) -> str:
        """All that its answers depend on but the prompts and the settings, as one text."""
        source = self.source
        about = source.model_dump(mode="json", exclude={"path", "outputs"})
        template = template_file(source.chat_template) if isinstance(source, ModelSource) else None
        about["template_file"] = known_sha256(template) if template else None
        return json.dumps([self.name, self.fingerprint, about], sort_keys=True)

    @property
    def can_run(self) -> bool:
        """Whether it can be asked: a file of outputs cannot."""
        return not isinstance(self.source, OutputsFile)


def contestants(config: EvaluateConfig, context: StageContext) -> list[Contestant]:
    """The baseline, the policy, then the others, as the config or the recipe's stages have them.

    Raises:
        ConfigError: nobody says which model one of them is.
        MissingInputError: a stage left no model behind.
    """
    sources = {
        BASELINE: config.baseline or _start(context),
        POLICY: _policy(config, context),
        **config.compare_with,
    }
    return [
        Contestant(name, source, contender_fingerprint(source)) for name, source in sources.items()
    ]


def _policy(config: EvaluateConfig, context: StageContext) -> ContenderSource:
    if config.checkpoint_step is None:
        return config.policy or _trained(context, "train", POLICY)
    if config.policy is not None:
        raise ConfigError(
            "evaluate.checkpoint_step: is a step of [train]; leave it out, or evaluate.policy"
        )
    return _checkpoint(config.checkpoint_step, context)


def _checkpoint(step: int, context: StageContext) -> ModelSource:
    """The checkpoint of a step, where train has kept it."""
    if not context.has("train"):
        raise ConfigError("evaluate.checkpoint_step: the recipe has no [train]")
    record = read_result(context.input("train", "checkpoints.json"), CheckpointRecord)
    paths = {kept.step: kept.path for kept in record.checkpoints}
    if step not in paths:
        known = ", ".join(map(str, sorted(paths)))
        raise MissingInputError(
            f"{context.inputs['train']}: no checkpoint of step {step} was kept, only of {known}; "
            "take one of these, or raise train.keep_checkpoints and train again"
        )
    return ModelSource(path=str(context.input("train", paths[step])))


def reference(config: EvaluateConfig, context: StageContext) -> ContenderSource:
    """What the policy was trained against; the baseline where it was not trained in this run.

    Raises:
        ConfigError: neither is known.
    """
    trained_here = config.policy is None and context.has("train")
    return _start(context) if trained_here else config.baseline or _start(context)


def _start(context: StageContext) -> ModelSource:
    """What training started from: the model [train] names, else what [sft] has made."""
    named = _declared(context, "train", "model")
    return ModelSource(**named) if named else _trained(context, "sft", BASELINE)


def _trained(context: StageContext, stage: str, role: str) -> ModelSource:
    if not context.has(stage):
        raise ConfigError(f"evaluate.{role}: the recipe has no [{stage}]; name the model there")
    return ModelSource(path=str(context.input(stage, "model")))


def policy_model_name(config: EvaluateConfig, context: StageContext) -> str:
    """The name under which the policy's first ancestor is known; "" where it was made here."""
    if config.policy is not None:
        return contender_name(config.policy)
    return _name(_declared(context, "train", "model")) or _name(_declared(context, "sft", "model"))


def judge_model_name(context: StageContext) -> str:
    """The models that the judge is, or was trained from, a panel's all; "" where it is none."""
    judge = _declared(context, "judge", "judge")
    if not isinstance(judge, dict):
        return ""
    names = (_one_judge(one, context) for one in judge.get("members") or [judge])
    return ", ".join(dict.fromkeys(name for name in names if name))


def _one_judge(judge: Mapping[str, Any], context: StageContext) -> str:
    if "model" not in judge:
        return ""
    if judge.get("server"):
        return str(judge["server"]["model"])
    return _name(judge["model"]) or _name(_declared(context, "sft", "model"))


def _declared(context: StageContext, stage: str, setting: str) -> Any:
    manifest = read_manifest(context.inputs[stage]) if context.has(stage) else None
    return manifest.payload.get("config", {}).get(setting) if manifest else None


def _name(model: Any) -> str:
    return Path(model["path"]).name if isinstance(model, dict) and model.get("path") else ""
