"""Make a judge, training it where it is a model, and measure it on labels it has never seen."""

from stages.judge.stage import STAGE, JudgeConfig

__all__ = ["STAGE", "JudgeConfig"]
