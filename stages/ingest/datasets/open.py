"""From a data set's settings to the reader of its kind."""

from collections.abc import Mapping
from typing import Any

from stages.ingest.datasets.arena import ArenaReader
from stages.ingest.datasets.food import FoodReader
from stages.ingest.datasets.helpsteer3 import HelpSteer3Reader
from stages.ingest.datasets.hh import HHReader
from stages.ingest.datasets.instructions import InstructionsReader
from stages.ingest.datasets.openbmb import OpenBMBReader
from stages.ingest.datasets.own.delta import DeltaReader
from stages.ingest.datasets.own.kto import KTOReader
from stages.ingest.datasets.own.preferences import OwnFilesReader
from stages.ingest.datasets.ultrafeedback import UltraFeedbackReader

_READERS: Mapping[str, Any] = {
    "food": FoodReader,
    "instructions": InstructionsReader,
    "hh": HHReader,
    "helpsteer3": HelpSteer3Reader,
    "ultrafeedback": UltraFeedbackReader,
    "ultrafeedback_openbmb": OpenBMBReader,
    "arena": ArenaReader,
    "jsonl": OwnFilesReader,
    "parquet": OwnFilesReader,
    "arrow": OwnFilesReader,
    "kto": KTOReader,
    "delta": DeltaReader,
    "csv": OwnFilesReader,
}


def open_dataset(settings: Any) -> Any:
    """The reader of a data set, one of `datasets.config.Dataset`."""
    return _READERS[settings.kind](settings)
