"""The data sets that can be read, one module each: a config with a `kind` and how to read it."""

from typing import Annotated

from pydantic import Field

from stages.ingest.datasets.arena import ArenaDataset
from stages.ingest.datasets.food import FoodDataset
from stages.ingest.datasets.helpsteer3 import HelpSteer3Dataset
from stages.ingest.datasets.hh import HHDataset
from stages.ingest.datasets.openbmb import OpenBMBDataset
from stages.ingest.datasets.preferences import JsonlDataset, ParquetDataset
from stages.ingest.datasets.ultrafeedback import UltraFeedbackDataset

Dataset = Annotated[
    FoodDataset
    | HHDataset
    | HelpSteer3Dataset
    | UltraFeedbackDataset
    | OpenBMBDataset
    | ArenaDataset
    | JsonlDataset
    | ParquetDataset,
    Field(discriminator="kind"),
]
