"""Settings of ingest."""

from typing import Literal

from pydantic import Field

from schemas.stage import Config
from stages.ingest.datasets.config import Dataset
from stages.ingest.filters.config import Filter
from stages.ingest.near_duplicates.config import Decontaminate, NearDuplicates


class IngestConfig(Config):
    """What to read, and which prompts to hold out."""

    datasets: list[Dataset] = Field(
        min_length=1, description="what to read, in this order; several are a mixture"
    )
    test_fraction: float = Field(
        0.1,
        ge=0,
        le=1,
        description="share of prompts that the result is measured on, chosen by the prompt's hash",
    )
    dev_fraction: float = Field(
        0.1,
        ge=0,
        le=1,
        description="share of prompts that every decision is made on (checkpoints, floors, rounds),"
        " chosen by the prompt's hash out of those that are left",
    )
    sides: Literal["dealt", "as_given"] = Field(
        "dealt",
        description="dealt: where a source always lists the chosen answer first, the seed puts it "
        "on side A or B; as_given: it stays A",
    )
    seed: int = Field(
        0, description="seed of the sides, of mixtures, and of generators without their own"
    )
    filters: list[Filter] = Field(
        [], description="rules that leave rows out; the first that objects gives the reason"
    )
    near_duplicates: NearDuplicates = Field(
        NearDuplicates(), description="prompts that say nearly the same"
    )
    decontaminate: list[Decontaminate] = Field(
        [], description="evaluation sets that training prompts must not overlap"
    )
