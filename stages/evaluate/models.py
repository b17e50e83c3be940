"""The two models of an evaluation."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from evals.models.checkpoints import ModelSource, model_fingerprint
from schemas.errors import ConfigError
from schemas.manifest import read_manifest
from schemas.stage import StageContext
from stages.evaluate import EvaluateConfig

Role = Literal["policy", "baseline"]


@dataclass(frozen=True)
class Contender:
    """A model, the part it plays, and the fingerprint of its weights."""

    role: Role
    source: ModelSource
    fingerprint: str


def contenders(config: EvaluateConfig, context: StageContext) -> Mapping[Role, Contender]:
    """Policy and baseline, as the config names them or the recipe's other stages made them.

    Raises:
        ConfigError: neither says which model it is.
        MissingInputError: a stage left no model behind.
    """
    return {
        "policy": _contender("policy", config.policy or _trained(context, "train", "policy")),
        "baseline": _contender("baseline", config.baseline or _start(context)),
    }


def _contender(role: Role, source: ModelSource) -> Contender:
    return Contender(role, source, model_fingerprint(source))


def _start(context: StageContext) -> ModelSource:
    """What training started from: the model [train] names, else what [sft] has made."""
    named = _declared(context, "train", "model")
    return ModelSource(**named) if named else _trained(context, "sft", "baseline")


def _trained(context: StageContext, stage: str, role: Role) -> ModelSource:
    if not context.has(stage):
        raise ConfigError(f"evaluate.{role}: the recipe has no [{stage}]; name the model there")
    return ModelSource(path=str(context.input(stage, "model")))


def policy_model_name(config: EvaluateConfig, context: StageContext) -> str:
    """The name under which the policy's first ancestor is known; "" where it was made here."""
    if config.policy is not None:
        return Path(config.policy.path).name
    return _name(_declared(context, "train", "model")) or _name(_declared(context, "sft", "model"))


def judge_model_name(context: StageContext) -> str:
    """The name of the model that the judge is, or was trained from; "" where it is no model."""
    judge = _declared(context, "judge", "judge")
    if not isinstance(judge, dict) or "model" not in judge:
        return ""
    return _name(judge["model"]) or _name(_declared(context, "sft", "model"))


def _declared(context: StageContext, stage: str, setting: str) -> Any:
    manifest = read_manifest(context.inputs[stage]) if context.has(stage) else None
    return manifest.payload.get("config", {}).get(setting) if manifest else None


def _name(model: Any) -> str:
    return Path(model["path"]).name if isinstance(model, dict) and model.get("path") else ""
