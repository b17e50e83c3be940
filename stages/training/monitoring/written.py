"""The table of what a policy wrote while it was trained, and the measures of it."""

import pyarrow as pa

from schemas.tables import MESSAGES, Table

GENERATIONS = Table(
    name="generations",
    schema=pa.schema(
        [
            # Optimizer steps behind the policy that wrote it; 0 is the start.
            pa.field("step", pa.int32(), nullable=False),
            pa.field("prompt_id", pa.string(), nullable=False),
            pa.field("prompt", MESSAGES, nullable=False),
            pa.field("completion", MESSAGES, nullable=False),
            # The end token included, where there is one.
            pa.field("num_tokens", pa.int32(), nullable=False),
            # Over those tokens, log p at temperature 1 (nats).
            pa.field("sum_logps", pa.float64(), nullable=False),
            pa.field("finish_reason", pa.string(), nullable=False),
            # Null where no rule is known.
            pa.field("well_formed", pa.bool_()),
        ]
    ),
    key=("step", "prompt_id"),
    allowed={"finish_reason": frozenset({"stop", "length"})},
)

END_OF_TURN_RATE = "eval_completions/end_of_turn_rate"
MEAN_LENGTH = "eval_completions/mean_length"
WELL_FORMED_RATE = "eval_completions/well_formed_rate"
