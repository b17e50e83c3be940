"""Settings of the data sets that can be read: one model a kind, and what its files look like."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from evals.files.opening.formats import Format, format_of
from evals.files.opening.places import (
    ARROW,
    CSV,
    JSON_LINES,
    SUFFIXES,
    is_remote,
    local_files,
)
from evals.food_world import FOODS, NAMES
from evals.instruction_world import MAX_PROMPTS
from schemas.errors import ConfigError, DataError
from schemas.patterns import late
from schemas.stage import Config
from stages.ingest.datasets.own.sides import SIDED_SETS
from stages.ingest.datasets.pair_policies import BestWorst, PairPolicy

TruthfulQA = Literal["reject", "keep"]
Score = Literal[
    "fine_grained",
    "overall",
    "helpfulness",
    "honesty",
    "instruction_following",
    "truthfulness",
]
PROMPT_FIELDS = (
    *("prompt", "messages", "conversations", "conversation"),
    *("instruction", "question", "query"),
)
"""Where prompts stand: ours and TRL's, chat data sets', chat logs', instruction data sets'."""
ARGILLA = ("instruction", "chosen_response", "rejected_response")
ONE_HOT = ("winner_model_a", "winner_model_b", "winner_tie")
# The folder and file of that part in the published layout.
_RED_TEAM = late(r"red[-_]team[-_]attempts")


class FileDataset(Config):
    """A data set whose rows lie in files or on a hub."""

    kind: str
    name: str | None = Field(None, description="the source in all tables; null takes the kind")
    path: str | None = Field(
        None,
        description="a file of JSON lines, a JSON array, CSV (all may end in .gz or .zst), Parquet "
        "or Arrow, a folder of them or of save_to_disk, or a glob pattern; relative to the current "
        "directory, or s3://, gs://, hf:// and what else fsspec knows",
    )
    hub_id: str | None = Field(
        None, description="a data set on the hub, loaded through datasets, instead of a path"
    )
    hub_revision: str = Field("main", description="branch, tag or commit on the hub; pin a commit")
    hub_subset: str | None = Field(None, description="configuration of the hub data set")
    hub_folder: str | None = Field(None, description="folder in the hub data set (its data_dir)")
    hub_split: str = Field("train", description="split of the hub data set")
    max_rows: int | None = Field(None, ge=1, description="read no more than the first so many rows")
    max_kept: int | None = Field(
        None, ge=1, description="keep so many of the good rows, drawn by seed and content"
    )
    weight: float | None = Field(
        None, gt=0, description="share in the mixture; with one, every data set needs one"
    )
    demonstrations: Literal["chosen", "none"] = Field(
        "chosen", description="chosen: preferred answers of train comparisons teach the SFT stage"
    )
    keep_source_split: bool = Field(
        False, description="take train and test from the names of files or hub split, not by hash"
    )

    columns: dict[str, str] = Field(
        {},
        description="where columns have other names than ours: "
        "{ prompt = 'instruction', chosen = 'better' }",
    )

    # Columns that a table must have: one of these sets, whole.
    needed: ClassVar[tuple[tuple[str, ...], ...]] = ((),)
    # What counts as a data file in a folder.
    suffixes: ClassVar[tuple[str, ...]] = SUFFIXES

    @model_validator(mode="after")
    def _one_source(self) -> "FileDataset":
        if (self.path is None) == (self.hub_id is None):
            raise ValueError("give either path or hub_id")
        return self

    @property
    def rows_are(self) -> str:
        """The table that the rows go to."""
        return "comparisons"

    def column_sets(self) -> tuple[tuple[str, ...], ...]:
        """Sets of columns of which a table must have one whole."""
        return self.needed

    def format_of(self, path: Path) -> Format:
        """What that file is read as, by its name."""
        return format_of(path)

    def files(self) -> list[Path]:
        """The local files, none for a hub or a remote store.

        Raises:
            MissingInputError: there is no such file.
        """
        if self.path is None or is_remote(self.path):
            return []
        return [path for _, path in local_files(self.path, self.suffixes)]

    def check_name(self, file: str) -> None:
        """Raises ConfigError where nothing that can be read ends like that."""
        if not file.endswith(SUFFIXES):
            raise ConfigError(
                f"{file}: not a file that can be read; give one of {', '.join(SUFFIXES)}"
            )


class FoodDataset(Config):
    """A generator: people, demonstrations for the train people, comparisons for everyone."""

    kind: Literal["food"] = Field("food", description="the food world, generated on the spot")
    name: str | None = Field(None, description="the source in all tables; null takes the kind")
    seed: int | None = Field(None, description="seed of the generator; null takes the stage's")
    people: int = Field(400, ge=2, le=len(NAMES), description="people, each one prompt")
    demonstrations_per_person: int = Field(
        len(FOODS), ge=0, le=len(FOODS), description="foods each train person is shown to like"
    )
    comparisons: int = Field(4000, ge=0, description="comparisons over all people")
    preferred_share: float = Field(
        0.25, ge=0, le=1, description="share of compared answers drawn as the favourite food"
    )
    malformed_share: float = Field(
        0.25, ge=0, le=1, description="share of compared answers drawn as not exactly one food"
    )

    @model_validator(mode="after")
    def _shares(self) -> "FoodDataset":
        if self.preferred_share + self.malformed_share > 1:
            raise ValueError("preferred_share and malformed_share add up to more than 1")
        return self

    def files(self) -> list[Path]:
        """Nothing is read."""
        return []


class InstructionsDataset(Config):
    """A generator of prompts with instructions that a program can check."""

    kind: Literal["instructions"] = Field(
        "instructions", description="prompts with verifiable instructions, generated on the spot"
    )
    name: str | None = Field(None, description="the source in all tables; null takes the kind")
    seed: int | None = Field(None, description="seed of the generator; null takes the stage's")
    prompts: int = Field(300, ge=1, le=MAX_PROMPTS, description="different prompts")

    def files(self) -> list[Path]:
        """Nothing is read."""
        return []


class HHDataset(FileDataset):
    """Anthropic/hh-rlhf; turns are stripped, as the space after a marker is not part of one."""

    kind: Literal["hh"] = Field("hh", description="Anthropic HH-RLHF transcripts")

    needed: ClassVar[tuple[tuple[str, ...], ...]] = (("chosen", "rejected"),)

    def files(self) -> list[Path]:
        """The local files. Raises DataError where one holds the red-team attempts."""
        found = super().files()
        for path in found:
            if _RED_TEAM.search(f"{path.parent.name}/{path.name}"):
                raise DataError(
                    f"{path}: red-team attempts are no preferences (one transcript a row, nothing "
                    "to compare it with); set path to the four parts, such as '*-*/train.jsonl.gz'"
                )
        return found


class HelpSteer3Dataset(FileDataset):
    """nvidia/HelpSteer3; 0 is a Tie and stays one; strength is 0 to 3."""

    kind: Literal["helpsteer3"] = Field("helpsteer3", description="NVIDIA HelpSteer3 preferences")

    needed: ClassVar[tuple[tuple[str, ...], ...]] = (
        ("context", "response1", "response2", "overall_preference"),
    )


class UltraFeedbackDataset(FileDataset):
    """HuggingFaceH4/ultrafeedback_binarized and its kin; equal scores are a Tie."""

    kind: Literal["ultrafeedback"] = Field(
        "ultrafeedback", description="UltraFeedback binarized (H4, trl-lib or argilla columns)"
    )
    truthful_qa: TruthfulQA = Field(
        "reject", description="prompts taken from TruthfulQA, an evaluation set: reject or keep"
    )

    needed: ClassVar[tuple[tuple[str, ...], ...]] = (("chosen", "rejected"), ARGILLA)


class OpenBMBDataset(FileDataset):
    """openbmb/UltraFeedback. Strength is the difference of the chosen score; annotations hold
    what each aspect says of the same two completions. List the data set once per aspect for one
    set of comparisons each.
    """

    kind: Literal["ultrafeedback_openbmb"] = Field(
        "ultrafeedback_openbmb", description="openbmb/UltraFeedback: four rated completions"
    )
    score: Score = Field(
        "fine_grained",
        description="what ranks completions: the mean of the aspects, one aspect, or overall_score",
    )
    pairs: PairPolicy = Field(BestWorst(), description="which completions are compared")
    truthful_qa: TruthfulQA = Field(
        "reject", description="prompts taken from TruthfulQA, an evaluation set: reject or keep"
    )

    needed: ClassVar[tuple[tuple[str, ...], ...]] = (("instruction", "completions"),)


class ArenaDataset(FileDataset):
    """Votes keep their sides; both bad is a Tie whose annotation says so.

    A vote on several turns speaks of two different conversations: only rows whose histories are
    the same up to the last answer can be compared, the others are rejected (prompts_differ).
    """

    kind: Literal["arena"] = Field("arena", description="chat-arena votes: winner, conversation_a")
    both_bad: Literal["tie", "reject"] = Field(
        "tie", description="tie: two bad answers are a Tie; reject: they teach nothing"
    )

    needed: ClassVar[tuple[tuple[str, ...], ...]] = (
        ("winner", "conversation_a", "conversation_b"),
        ("prompt", "response_a", "response_b", *ONE_HOT),
    )


class OwnFiles(FileDataset):
    """Rows in the formats of TRL, of the Tinker cookbook, and of our own tables."""

    content: Literal["comparisons", "demonstrations", "prompts"] = Field(
        "comparisons",
        description="what the rows are: preferences, prompt and completion, or prompts alone",
    )

    _COLUMNS: ClassVar[Mapping[str, tuple[tuple[str, ...], ...]]] = {
        "comparisons": (
            ("chosen", "rejected"),
            ("comparison", "label"),
            ("completion_a", "completion_b", "label"),
            *SIDED_SETS,
        ),
        "demonstrations": tuple((name, "completion") for name in PROMPT_FIELDS),
        "prompts": tuple((name,) for name in PROMPT_FIELDS),
    }

    @property
    def rows_are(self) -> str:
        """The table that the rows go to."""
        return self.content

    def column_sets(self) -> tuple[tuple[str, ...], ...]:
        """The columns that rows of this content have."""
        return self._COLUMNS[self.content]


class KTODataset(FileDataset):
    """TRL's unpaired preferences: an answer and whether it is good. Of a prompt, each good answer
    is compared with a bad one, in the order of the file; what is left over has a table of its own.
    """

    kind: Literal["kto"] = Field(
        "kto", description="unpaired: prompt, completion, label true/false"
    )
    left_over: Literal["keep", "reject"] = Field(
        "keep",
        description="answers that found no counterpart: keep (train reads them with kind = kto), "
        "or reject",
    )

    needed: ClassVar[tuple[tuple[str, ...], ...]] = tuple(
        (name, "completion", "label") for name in PROMPT_FIELDS
    )


class DeltaDataset(FileDataset):
    """Delta pairs: of each prompt a stronger model's answer over a weaker one's; nobody judges.

    The files may be a completions table of sample, or any of prompts and completions. Of a prompt
    the first answer is put beside the first, the second beside the second. (Geng et al. 2025, The
    Delta Learning Hypothesis, arXiv:2507.06187.)
    """

    kind: Literal["delta"] = Field(
        "delta", description="a stronger model's answers (path) over a weaker one's, no judge"
    )
    weaker: str = Field(description="the weaker model's answers: a file, a folder or a glob")

    needed: ClassVar[tuple[tuple[str, ...], ...]] = tuple(
        (name, "completion") for name in PROMPT_FIELDS
    )

    def files(self) -> list[Path]:
        """The local files of both models."""
        weaker = [] if is_remote(self.weaker) else local_files(self.weaker, self.suffixes)
        return [*super().files(), *(path for _, path in weaker)]


class _OneFormat(OwnFiles):
    """Files of one format, whatever they are called."""

    format: ClassVar[Format]

    def check_name(self, file: str) -> None:
        """Any name will do."""

    def format_of(self, path: Path) -> Format:
        """The one."""
        return self.format


class JsonlDataset(_OneFormat):
    """JSON Lines or an array of rows; gzipped where the name ends in .gz."""

    kind: Literal["jsonl"] = Field(
        "jsonl", description="JSON Lines, or a JSON array, in TRL's or Tinker's formats"
    )

    suffixes: ClassVar[tuple[str, ...]] = JSON_LINES
    format: ClassVar[Format] = "json"


class ParquetDataset(_OneFormat):
    """Parquet."""

    kind: Literal["parquet"] = Field("parquet", description="Parquet in TRL's formats")

    suffixes: ClassVar[tuple[str, ...]] = (".parquet",)
    format: ClassVar[Format] = "parquet"


class ArrowDataset(_OneFormat):
    """Arrow: a folder that `datasets` saved by save_to_disk, or files of its or Feather's."""

    kind: Literal["arrow"] = Field(
        "arrow", description="a folder of save_to_disk, or Arrow files, in TRL's formats"
    )

    suffixes: ClassVar[tuple[str, ...]] = ARROW
    format: ClassVar[Format] = "arrow"


class CsvDataset(_OneFormat):
    """CSV whose first line names the columns; conversations are JSON in a cell."""

    kind: Literal["csv"] = Field("csv", description="CSV or TSV in TRL's formats")

    suffixes: ClassVar[tuple[str, ...]] = CSV
    format: ClassVar[Format] = "csv"


Dataset = Annotated[
    FoodDataset
    | InstructionsDataset
    | HHDataset
    | HelpSteer3Dataset
    | UltraFeedbackDataset
    | OpenBMBDataset
    | ArenaDataset
    | JsonlDataset
    | ParquetDataset
    | ArrowDataset
    | KTODataset
    | DeltaDataset
    | CsvDataset,
    Field(discriminator="kind"),
]
