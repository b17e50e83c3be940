"""What may decide between two models."""

from collections.abc import Mapping
from typing import Literal

Measure = Literal["win_rate", "length_controlled", "discrete"]
"""What may decide; which one does is declared before anyone has seen the verdicts."""

MEASURES: Mapping[Measure, str] = {
    "win_rate": "win rate",
    "length_controlled": "length-controlled win rate",
    "discrete": "discrete win rate",
}
"""What each is called."""
