"""Ingest: raw preference data to declared tables; what cannot be used is kept with its reason."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field

from schemas.stage import Config, Stage, StageContext
from stages.ingest.cleaning.decontamination import Decontaminate
from stages.ingest.cleaning.filters import Filter
from stages.ingest.cleaning.near_duplicates import NearDuplicates
from stages.ingest.datasets import Dataset


class IngestConfig(Config):
    """What to read, and which prompts to hold out."""

    datasets: list[Dataset] = Field(
        min_length=1, description="what to read, in this order; several are a mixture"
    )
    test_fraction: float = Field(
        0.1, ge=0, le=1, description="share of prompts held out, chosen by the prompt's hash"
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


def _files(config: IngestConfig) -> Sequence[Path]:
    reading = (*config.datasets, *config.filters, *config.decontaminate)
    return [path for one in reading for path in one.files()]


def _run(config: IngestConfig, context: StageContext) -> Mapping[str, int]:
    from stages.ingest.build import ingest

    return ingest(config, context)


STAGE = Stage(
    name="ingest",
    summary="read raw preference data into prompts, demonstrations and comparisons",
    config=IngestConfig,
    inputs=(),
    run=_run,
    version=4,
    files=_files,
)
