"""prefline as a library: what the commands do, on frames, in a notebook or a program.

    import prefline as pf

    pairs = pf.read_pairs("pairs.jsonl")
    verdicts = pf.judge(pairs, "length")
    print(pf.win_rate(verdicts))

Frames are polars' or pandas', Arrow tables, or lists of dictionaries.
"""

from prefline.comparisons import Comparison, LabeledComparison, render_comparison
from prefline.judging import compare, judge, read_pairs
from prefline.losses import dpo_loss, dpo_metrics
from prefline.rates import WinRate, win_rate
from prefline.runs import FinishedRun, run
from schemas.errors import ConfigError, DataError, MissingInputError, PipelineError

__all__ = [
    "Comparison",
    "ConfigError",
    "DataError",
    "FinishedRun",
    "LabeledComparison",
    "MissingInputError",
    "PipelineError",
    "WinRate",
    "compare",
    "dpo_loss",
    "dpo_metrics",
    "judge",
    "read_pairs",
    "render_comparison",
    "run",
    "win_rate",
]
