"""Turn sampled completions into preference pairs that a judge stands by in both orders."""

from stages.label.stage import STAGE, LabelConfig

__all__ = ["STAGE", "LabelConfig"]
