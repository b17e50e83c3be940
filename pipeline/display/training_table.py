"""Which numbers of a training are shown while it runs, under which names, and in what form."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from rich.table import Table
from rich.text import Text

Values = Mapping[str, float | int | str]

HELD_OUT = "eval_"


@dataclass(frozen=True)
class Column:
    """A metric, its heading, and how its values are written."""

    metric: str
    heading: str
    show: Callable[[float], str]


def show_number(value: float | int | str) -> str:
    """A number of any size in the few characters that a table column has."""
    if isinstance(value, str):
        return value
    if isinstance(value, int) or (abs(value) >= 1000 and float(value).is_integer()):
        return f"{value:,.0f}"
    if value != 0 and (abs(value) < 1e-3 or abs(value) >= 1e5):
        return f"{value:.2e}"
    return f"{value:.4f}" if abs(value) < 10 else f"{value:.1f}"


def _count(value: float) -> str:
    return f"{value:,.0f}"


def _rate(value: float) -> str:
    return f"{value:.3f}"


def _signed(value: float) -> str:
    return f"{value:+.3f}" if abs(value) < 10 else f"{value:+.1f}"


def _small(value: float) -> str:
    return f"{value:.1e}"


def _tokens(value: float) -> str:
    return f"{value:,.0f}" if value < 1e5 else f"{value / 1e3:,.0f}k"


def _bytes(value: float) -> str:
    return f"{value / 1e9:.1f} GB"


# By importance: what does not fit is left out from the end.
TRAINING = (
    Column("step", "step", _count),
    Column("loss", "loss", show_number),
    Column("rewards/accuracies", "accuracy", _rate),
    Column("rewards/margins", "margin", _signed),
    Column("rewards/chosen", "chosen", _signed),
    Column("rewards/rejected", "rejected", _signed),
    Column("learning_rate", "lr", _small),
    Column("tokens_per_second", "tok/s", _tokens),
    Column("num_pairs", "pairs", _count),
    Column("num_examples", "examples", _count),
    Column("peak_memory_bytes", "memory", _bytes),
    Column("logps/chosen", "logp chosen", show_number),
    Column("grad_norm", "grad norm", show_number),
)
MEASURED = (
    Column("step", "step", _count),
    Column("loss", "loss", show_number),
    Column("rewards/accuracies", "accuracy", _rate),
    Column("token_accuracy", "accuracy", _rate),
    Column("rewards/margins", "margin", _signed),
    Column("rewards/chosen", "chosen", _signed),
    Column("rewards/rejected", "rejected", _signed),
    Column("logps/chosen", "logp chosen", show_number),
    Column("completions/end_of_turn_rate", "ends", _rate),
    Column("completions/well_formed_rate", "well-formed", _rate),
    Column("completions/mean_length", "tokens", show_number),
    Column("exact_match", "exact match", _rate),
)


def is_training(values: Values) -> bool:
    """Whether these are the numbers of a training step, and not a stage's own counts."""
    return "step" in values


def of_training(values: Values) -> dict[str, float | int | str]:
    """What was measured on the items of the step; empty where the step trained nothing."""
    own = {k: v for k, v in values.items() if not k.startswith(HELD_OUT)}
    return own if own.keys() - {"step", "epoch"} else {}


def of_measuring(values: Values) -> dict[str, float | int | str]:
    """What was measured beside training, on held-out items; empty at most steps."""
    found = {k.removeprefix(HELD_OUT): v for k, v in values.items() if k.startswith(HELD_OUT)}
    return {"step": values["step"], **found} if found else {}


def in_words(values: Values, columns: Sequence[Column]) -> str:
    """The numbers in a line, each after its heading."""
    shown = (f"{c.heading} {_cell(c, values)}" for c in columns if c.metric in values)
    return ", ".join(shown)


def table_of(rows: Sequence[Values], columns: Sequence[Column], width: int) -> Table:
    """The rows as a table at most `width` characters wide."""
    cells = {
        c: [_cell(c, row) for row in rows] for c in columns if any(c.metric in r for r in rows)
    }
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    for column in fitting(cells, width):
        table.add_column(column.heading, justify="right", no_wrap=True)
    for index in range(len(rows)):
        table.add_row(*(Text(cells[column][index]) for column in fitting(cells, width)))
    return table


def fitting(cells: Mapping[Column, Sequence[str]], width: int) -> list[Column]:
    """The first columns that fit side by side into `width` characters, one at least."""
    chosen: list[Column] = []
    end = -2  # two spaces between neighbours
    for column, texts in cells.items():
        end += 2 + max(len(column.heading), *map(len, texts))
        if end > width and chosen:
            break
        chosen.append(column)
    return chosen


def _cell(column: Column, values: Values) -> str:
    value = values.get(column.metric, "")
    return value if isinstance(value, str) else column.show(value)
