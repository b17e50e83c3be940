"""Judges: one module per kind, one interface, one file that opens them again."""

from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError

from evals.judges.interface import Judge
from evals.judges.kinds.length import LengthJudge
from evals.judges.kinds.llm import LlmJudge
from evals.judges.kinds.panel import PanelJudge
from evals.judges.kinds.preference_model import PreferenceModelJudge
from evals.judges.kinds.reward_model import RewardModelJudge
from evals.judges.kinds.rule import RuleJudge
from evals.models.checkpoints import ModelSource
from schemas.errors import DataError, MissingInputError
from schemas.files import write_text
from schemas.stage import Config, Runtime

__all__ = [
    "JUDGE_FILE",
    "Judge",
    "JudgeFile",
    "JudgeKind",
    "LengthJudge",
    "LlmJudge",
    "PanelJudge",
    "PreferenceModelJudge",
    "RewardModelJudge",
    "RuleJudge",
    "judge_model_files",
    "open_judge",
    "save_judge",
]

JudgeKind = Annotated[
    RuleJudge | LengthJudge | PreferenceModelJudge | RewardModelJudge | LlmJudge | PanelJudge,
    Field(discriminator="kind"),
]
"""Every kind of judge. A new one is a module, a member here, and one of `panel.MemberKind`."""

JUDGE_FILE = "judge.json"


class JudgeFile(Config):
    """What judge.json holds: the settings that open the judge, and who it was when saved."""

    judge: JudgeKind
    name: str = Field(description="what tables call the judge")
    fingerprint: str = Field(description="hash of settings and weights when it was saved")


def save_judge(folder: Path, kind: JudgeKind, runtime: Runtime) -> Judge:
    """Open the judge that `folder` and `kind` make, write judge.json, and return the judge.

    Where `folder` holds a trained model, the settings forget the model that training began from.
    """
    judge = kind.open(folder, runtime)
    if isinstance(kind, PreferenceModelJudge) and kind.trained_model(folder):
        kind = kind.model_copy(update={"model": None})
    record = JudgeFile(judge=kind, name=judge.name, fingerprint=judge.fingerprint)
    write_text(folder / JUDGE_FILE, record.model_dump_json(indent=2) + "\n")
    return judge


def open_judge(folder: Path, runtime: Runtime) -> Judge:
    """Open the judge that a judge stage has left in its directory.

    Raises:
        MissingInputError: no judge.json there, or the model's folder is gone.
        DataError: judge.json cannot be read.
        BackendError: the model cannot be loaded.
    """
    path = folder / JUDGE_FILE
    if not path.exists():
        raise MissingInputError(f"{path}: missing; run the stage judge again")
    try:
        record = TypeAdapter(JudgeFile).validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        raise DataError(
            f"{path}: not a judge ({'.'.join(map(str, first['loc']))}: {first['msg']}); "
            "run the stage judge again"
        ) from error
    return record.judge.open(folder, runtime)


def judge_model_files(kind: JudgeKind) -> list[Path]:
    """The files that a judge is made of, models, rubric and the like, for a stage's fingerprint."""
    if isinstance(kind, PanelJudge):
        return [path for member in kind.members for path in judge_model_files(member)]
    model: ModelSource | None = getattr(kind, "model", None)
    own = kind.own_files() if isinstance(kind, LlmJudge) else []
    return [*own, *(model.files() if model else [])]
