"""The stages, in the order of a whole run. To add one, write its module and name it here."""

from typing import Any

from schemas.stage import Stage
from stages.evaluate import STAGE as EVALUATE
from stages.ingest import STAGE as INGEST
from stages.judge import STAGE as JUDGE
from stages.label import STAGE as LABEL
from stages.report import STAGE as REPORT
from stages.sample import STAGE as SAMPLE
from stages.sft import STAGE as SFT
from stages.train import STAGE as TRAIN

STAGES: tuple[Stage[Any], ...] = (INGEST, SFT, JUDGE, SAMPLE, LABEL, TRAIN, EVALUATE, REPORT)
BY_NAME = {stage.name: stage for stage in STAGES}
