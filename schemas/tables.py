"""The tables that stages exchange: schema, key and invariants, declared once.

Types at rest are plain lists and strings only, which `datasets`, polars, pyarrow, DuckDB and
pandas all read the same way. Probabilities and rates are in [0, 1].
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import pyarrow as pa

SCHEMA_VERSION = 3

TOOL_CALLS = pa.list_(
    pa.struct(
        [
            ("id", pa.string()),
            ("function", pa.struct([("name", pa.string()), ("arguments", pa.string())])),
        ]
    )
)
_PLAIN = [("role", pa.string()), ("content", pa.string())]
PLAIN_MESSAGES = pa.list_(pa.struct(_PLAIN))
# As `schemas.labels.Message`; what a turn does not have is null.
MESSAGES = pa.list_(
    pa.struct(
        [
            *_PLAIN,
            ("reasoning", pa.string()),
            ("tool_calls", TOOL_CALLS),
            ("tool_call_id", pa.string()),
            ("name", pa.string()),
            ("extra", pa.string()),
        ]
    )
)
ANNOTATIONS = pa.list_(
    pa.struct(
        [
            ("annotator", pa.string()),
            ("label", pa.string()),
            ("strength", pa.float64()),
            ("reason", pa.string()),
            # What the annotator wrote on either completion; null where the source is silent.
            ("feedback_a", pa.string()),
            ("feedback_b", pa.string()),
        ]
    )
)

# By each criterion of a judge: 1 where A is better by it, 0.5 for a tie; and what either completion
# was rated, where each was by itself.
CRITERIA = pa.list_(
    pa.struct(
        [
            ("criterion", pa.string()),
            ("weight", pa.float64()),
            ("score_a", pa.float64()),
            ("rating_a", pa.float64()),
            ("rating_b", pa.float64()),
        ]
    )
)
# Ratings that a verdict follows from: of many verdicts with one rating, it was paid once. A null id
# stands for whatever else the verdict took.
RATED = pa.list_(
    pa.struct(
        [
            ("rating_id", pa.string()),
            ("prompt_tokens", pa.int32()),
            ("completion_tokens", pa.int32()),
        ]
    )
)

LABELS = frozenset({"A", "B", "Tie"})
SPLITS = frozenset({"train", "dev", "test"})
DECIDING = ("train", "dev")
"""The splits that everything but the final figures may look at."""
PROBABILITY = (0.0, 1.0)
RATING = (1.0, 10.0)


@dataclass(frozen=True)
class Table:
    """A declared table.

    `key` columns are unique together; `allowed` limits a column to values; `ranges` to a closed
    interval. Columns are nullable only where the schema says so. `later` columns are not in the
    files of earlier versions: where they are missing they are null.
    """

    name: str
    schema: pa.Schema
    key: tuple[str, ...] = ()
    allowed: Mapping[str, frozenset[str]] = field(default_factory=dict)
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    later: frozenset[str] = frozenset()

    @property
    def file_name(self) -> str:
        """The name of the table's file in a stage directory."""
        return f"{self.name}.parquet"

    @property
    def required(self) -> frozenset[str]:
        """The columns by which a file of any version is known."""
        return frozenset(self.schema.names) - self.later


def _schema(*fields: tuple[str, pa.DataType] | tuple[str, pa.DataType, bool]) -> pa.Schema:
    return pa.schema([pa.field(f[0], f[1], nullable=len(f) == 3) for f in fields])


_NULLABLE = True

# What a prompt has for the chat template: JSON text of a list of tools, and of an object of
# arguments. Where there are any, they are part of the prompt's id.
_TEMPLATE: tuple[tuple[str, pa.DataType, bool], ...] = (
    ("tools", pa.string(), _NULLABLE),
    ("chat_template_kwargs", pa.string(), _NULLABLE),
)
TEMPLATE_COLUMNS = frozenset(name for name, *_ in _TEMPLATE)

# An answer that is known to be good, for judges that are shown one; no part of any id.
_REFERENCE: tuple[tuple[str, pa.DataType, bool], ...] = (("reference", pa.string(), _NULLABLE),)
REFERENCE_COLUMNS = frozenset(name for name, *_ in _REFERENCE)

# Where a row came from: the raw file (or `generator:seed`), and its zero-based row or line.
_LINEAGE: tuple[tuple[str, pa.DataType], ...] = (
    ("source", pa.string()),
    ("file", pa.string()),
    ("row", pa.int64()),
)

PROMPTS = Table(
    name="prompts",
    schema=_schema(
        ("prompt_id", pa.string()),
        ("prompt", MESSAGES),
        ("split", pa.string()),
        ("category", pa.string(), _NULLABLE),
        *_LINEAGE,
        *_TEMPLATE,
        *_REFERENCE,
    ),
    later=TEMPLATE_COLUMNS | REFERENCE_COLUMNS,
    key=("prompt_id",),
    allowed={"split": SPLITS},
)

DEMONSTRATIONS = Table(
    name="demonstrations",
    schema=_schema(
        ("demonstration_id", pa.string()),
        ("prompt_id", pa.string()),
        ("prompt", MESSAGES),
        ("completion", MESSAGES),
        ("split", pa.string()),
        *_LINEAGE,
        *_TEMPLATE,
    ),
    later=TEMPLATE_COLUMNS,
    key=("demonstration_id",),
    allowed={"split": SPLITS},
)

COMPARISONS = Table(
    name="comparisons",
    schema=_schema(
        ("comparison_id", pa.string()),
        ("prompt_id", pa.string()),
        ("prompt", MESSAGES),
        ("completion_a", MESSAGES),
        ("completion_b", MESSAGES),
        # Null where nobody has said yet, or a judge could not.
        ("label", pa.string(), _NULLABLE),
        # How strongly, in the source's own units, never negative; null where the source is silent.
        ("strength", pa.float64(), _NULLABLE),
        ("annotations", ANNOTATIONS),
        # "human", "rule", "model", or the name of the judge; null with the label.
        ("label_source", pa.string(), _NULLABLE),
        # Ids in a completions table, where the texts were sampled.
        ("completion_a_id", pa.string(), _NULLABLE),
        ("completion_b_id", pa.string(), _NULLABLE),
        ("split", pa.string()),
        ("category", pa.string(), _NULLABLE),
        *_LINEAGE,
        *_TEMPLATE,
        *_REFERENCE,
    ),
    later=TEMPLATE_COLUMNS | REFERENCE_COLUMNS,
    key=("comparison_id",),
    allowed={"label": LABELS, "split": SPLITS},
)

UNPAIRED = Table(
    name="unpaired",
    schema=_schema(
        ("unpaired_id", pa.string()),
        ("prompt_id", pa.string()),
        ("prompt", MESSAGES),
        ("completion", MESSAGES),
        # Whether it is a good answer.
        ("desirable", pa.bool_()),
        ("split", pa.string()),
        ("category", pa.string(), _NULLABLE),
        *_LINEAGE,
        *_TEMPLATE,
    ),
    later=TEMPLATE_COLUMNS,
    key=("unpaired_id",),
    allowed={"split": SPLITS},
)

COMPLETIONS = Table(
    name="completions",
    schema=_schema(
        ("completion_id", pa.string()),
        ("prompt_id", pa.string()),
        ("sample_index", pa.int32()),
        ("prompt", MESSAGES),
        ("completion", MESSAGES),
        # Fingerprint of the model that wrote it, and the engine that ran the model; of a file of
        # outputs its content, and "file".
        ("policy", pa.string()),
        ("sampler", pa.string()),
        # Null where nobody knows: a file of outputs, a server that does not say.
        ("temperature", pa.float64(), _NULLABLE),
        ("top_p", pa.float64(), _NULLABLE),
        ("max_tokens", pa.int32(), _NULLABLE),
        ("seed", pa.int64(), _NULLABLE),
        ("num_tokens", pa.int32(), _NULLABLE),
        # Sum over completion tokens, end-of-turn included, of log p at temperature 1 (nats).
        ("sum_logps", pa.float64(), _NULLABLE),
        ("finish_reason", pa.string(), _NULLABLE),
        ("split", pa.string()),
        ("category", pa.string(), _NULLABLE),
        *_LINEAGE,
        *_TEMPLATE,
        *_REFERENCE,
        # What the engine drew, the end token included, and log p of each at temperature 1; null
        # where it does not say. `tokens_of` is the fingerprint of tokenizer and template that the
        # ids belong to.
        ("completion_ids", pa.list_(pa.int32()), _NULLABLE),
        ("completion_logps", pa.list_(pa.float32()), _NULLABLE),
        ("tokens_of", pa.string(), _NULLABLE),
    ),
    later=TEMPLATE_COLUMNS
    | REFERENCE_COLUMNS
    | {"completion_ids", "completion_logps", "tokens_of"},
    key=("completion_id",),
    allowed={"split": SPLITS, "finish_reason": frozenset({"stop", "length"})},
)

VERDICTS = Table(
    name="verdicts",
    schema=_schema(
        ("comparison_id", pa.string()),
        ("prompt_id", pa.string()),
        ("judge", pa.string()),
        ("judge_fingerprint", pa.string()),
        # The order shown. The probabilities below always speak of the comparison's own A and B.
        ("order", pa.string()),
        ("p_a", pa.float64(), _NULLABLE),
        ("p_b", pa.float64(), _NULLABLE),
        ("p_tie", pa.float64(), _NULLABLE),
        ("label_mass", pa.float64(), _NULLABLE),
        # Exactly one of verdict and unscored_reason is null.
        ("verdict", pa.string(), _NULLABLE),
        ("unscored_reason", pa.string(), _NULLABLE),
        ("unscored_detail", pa.string(), _NULLABLE),
        ("raw", pa.string()),
        # Of a rating that several verdicts follow from, the first one has them, the others 0.
        ("prompt_tokens", pa.int32(), _NULLABLE),
        ("completion_tokens", pa.int32(), _NULLABLE),
        ("criteria", CRITERIA, _NULLABLE),
        # The whole rating of either completion, where each was rated by itself; `rated` then tells
        # which ratings, and both orders say the same.
        ("rating_a", pa.float64(), _NULLABLE),
        ("rating_b", pa.float64(), _NULLABLE),
        ("rated", RATED, _NULLABLE),
        # Whether the judge was shown a reference answer; null where it is shown none.
        ("with_reference", pa.bool_(), _NULLABLE),
    ),
    later=frozenset({"criteria", "rating_a", "rating_b", "rated", "with_reference"}),
    key=("comparison_id", "judge", "order"),
    allowed={"order": frozenset({"ab", "ba"}), "verdict": LABELS},
    ranges={c: PROBABILITY for c in ("p_a", "p_b", "p_tie", "label_mass")}
    | {c: RATING for c in ("rating_a", "rating_b")},
)

PREFERENCE_PAIRS = Table(
    name="preference_pairs",
    schema=_schema(
        ("pair_id", pa.string()),
        ("prompt_id", pa.string()),
        ("prompt", MESSAGES),
        ("chosen", MESSAGES),
        ("rejected", MESSAGES),
        # |soft score of A - soft score of B| in [0, 1] for judged pairs, else the strength given.
        ("margin", pa.float64(), _NULLABLE),
        # The same side won in both orders; null where only one order, or a human, has spoken.
        ("consistent", pa.bool_(), _NULLABLE),
        ("label_source", pa.string()),
        ("comparison_id", pa.string()),
        ("chosen_id", pa.string(), _NULLABLE),
        ("rejected_id", pa.string(), _NULLABLE),
        ("split", pa.string()),
        *_LINEAGE,
        *_TEMPLATE,
        # The tokens that were drawn, as in the completions table.
        ("chosen_token_ids", pa.list_(pa.int32()), _NULLABLE),
        ("rejected_token_ids", pa.list_(pa.int32()), _NULLABLE),
        ("chosen_logps", pa.list_(pa.float32()), _NULLABLE),
        ("rejected_logps", pa.list_(pa.float32()), _NULLABLE),
        ("tokens_of", pa.string(), _NULLABLE),
        # The fingerprint of the model that drew both.
        ("policy", pa.string(), _NULLABLE),
    ),
    later=TEMPLATE_COLUMNS
    | {"chosen_token_ids", "rejected_token_ids", "chosen_logps", "rejected_logps"}
    | {"tokens_of", "policy"},
    key=("pair_id",),
    allowed={"split": SPLITS},
)

REJECTS = Table(
    name="rejects",
    schema=_schema(
        # The table the row would have gone to.
        ("table", pa.string()),
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("file", pa.string()),
        ("row", pa.int64()),
        # The row as it was read: text as it stands; bytes that are not UTF-8 backslash-escaped.
        ("raw", pa.string()),
    ),
)

TABLES = {
    t.name: t
    for t in (
        PROMPTS,
        DEMONSTRATIONS,
        COMPARISONS,
        UNPAIRED,
        COMPLETIONS,
        VERDICTS,
        PREFERENCE_PAIRS,
        REJECTS,
    )
}
