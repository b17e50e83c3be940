"""The numbers of a training on a terminal: which, in what words, and only as far as they fit."""

import io
from typing import Any

import pytest

from pipeline.display import progress as progress_module
from pipeline.display.console import Console
from pipeline.display.pace import Pace
from pipeline.display.progress import LiveProgress, PlainProgress
from pipeline.display.training_table import MEASURED, TRAINING, Column, fitting, in_words, table_of

STEP = {
    "step": 40,
    "epoch": 0.5,
    "loss": 0.5125,
    "rewards/chosen": 0.25,
    "rewards/rejected": -0.5,
    "rewards/margins": 0.75,
    "rewards/accuracies": 0.875,
    "logps/chosen": -61.25,
    "learning_rate": 1.5e-4,
    "num_pairs": 32,
    "num_tokens": 4321,
    "tokens_per_second": 1234.5,
    "peak_memory_bytes": 1_900_000_000,
}
MEASURE = {"eval_loss": 0.6, "eval_completions/end_of_turn_rate": 0.75}
START = {"step": 0, "epoch": 0.0, "eval_loss": 0.6931}


def terminal(width: int) -> tuple[Console, io.StringIO]:
    screen = io.StringIO()
    return Console(file=screen, force_terminal=True, width=width, no_color=True), screen


def drawn(width: int, *rows: dict[str, Any]) -> list[str]:
    console, _ = terminal(width)
    task = progress_module._LiveTask("train", 100, "step", console)
    for row in rows:
        task.metrics(row)
    out = io.StringIO()
    Console(file=out, width=width).print(task)
    return out.getvalue().splitlines()


@pytest.mark.parametrize("width", [40, 80, 200])
def test_no_line_is_wider_than_the_terminal_and_none_is_cut(width: int) -> None:
    lines = drawn(width, START, *[STEP | {"step": s} for s in range(1, 40)], STEP | MEASURE)
    assert max(map(len, lines)) <= width
    assert not any("…" in line for line in lines[1:])


def test_eighty_columns_hold_what_one_watches() -> None:
    (heading,) = [line for line in drawn(80, STEP) if line.startswith("step")]
    assert " ".join(heading.split()) == (
        "step loss accuracy margin chosen rejected lr tok/s pairs memory"
    )
    (numbers,) = [line for line in drawn(80, STEP) if line.startswith("  40")]
    assert " ".join(numbers.split()) == (
        "40 0.5125 0.875 +0.750 +0.250 -0.500 1.5e-04 1,234 32 1.9 GB"
    )


def test_the_start_and_the_newest_measurements_stay_in_sight() -> None:
    many = [STEP | MEASURE | {"step": s} for s in range(1, 30)]
    lines = drawn(80, START, *many)
    held_out = lines[lines.index(next(x for x in lines if x.startswith("held out"))) + 2 :]
    assert [line.split()[0] for line in held_out] == ["0", "25", "26", "27", "28", "29"]


def test_columns_are_left_out_from_the_end() -> None:
    cells = {Column(n, n, str): ["12345"] for n in ("step", "loss", "accuracy")}
    # 5 and 5 and 8 characters, two spaces between them.
    assert [c.heading for c in fitting(cells, 22)] == ["step", "loss", "accuracy"]
    assert [c.heading for c in fitting(cells, 21)] == ["step", "loss"]
    assert [c.heading for c in fitting(cells, 1)] == ["step"]


def test_a_metric_that_no_row_has_takes_no_column() -> None:
    headings = [c.header for c in table_of([{"step": 1, "loss": 0.5}], TRAINING, 200).columns]
    assert headings == ["step", "loss"]


def test_plain_lines_say_measurements_at_once_and_how_long_it_takes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    now = [100.0]
    task = progress_module._PlainTask("train", 100, "step")
    task.pace = Pace(100, lambda: now[0])
    task.metrics(START)
    assert capsys.readouterr().err == "train: held out: step 0, loss 0.6931\n"
    for step in range(1, 41):
        now[0] += 0.25
        task.metrics(STEP | {"step": step} | (MEASURE if step == 40 else {}))
        task.advance()
        task.show_in_time()
    lines = capsys.readouterr().err.splitlines()
    # The first line after a second, the next 5 seconds later: 24 of 100 steps in 6 seconds.
    assert lines[0].startswith("train: 4/100 step, 1 s, 4.0/s, 24 s left: loss 0.5125, accuracy")
    assert lines[0].endswith("tok/s 1,234, pairs 32, memory 1.9 GB, logp chosen -61.2")
    assert lines[1].startswith("train: 24/100 step, 6 s, 4.0/s, 19 s left: ")
    assert lines[2] == "train: held out: step 40, loss 0.6000, ends 0.750"


def test_steps_of_an_earlier_run_do_not_count_as_speed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    now = [100.0]
    task = progress_module._PlainTask("train", 100, "step")
    task.pace = Pace(100, lambda: now[0])
    task.advance(80)
    for _ in range(5):
        now[0] += 1
        task.advance()
    task.show()
    assert "train: 85/100 step, 5 s, 1.0/s, 15 s left" in capsys.readouterr().err


def test_counts_of_other_stages_are_shown_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    with PlainProgress().task("judge", 2, "verdicts") as task:
        task.metrics({"cost": 1.5, "cached": 3})
        task.advance(2)
    assert capsys.readouterr().err == "judge: 2/2 verdicts, 0 s: cost=1.5000 cached=3\n"
    console, _ = terminal(80)
    live = progress_module._LiveTask("judge", 2, "verdicts", console)
    live.metrics({"cost": 1.5})
    out = io.StringIO()
    Console(file=out, width=80).print(live)
    assert out.getvalue().splitlines()[-1] == "cost=1.5000"


def test_warnings_stand_above_the_bar() -> None:
    console, screen = terminal(80)
    live = LiveProgress(console)
    with live.task("train", 1, "step") as task:
        live.warn("train: step 1: it fell")
        task.advance()
    assert "warning: train: step 1: it fell" in screen.getvalue()


def test_words_of_a_measurement() -> None:
    assert in_words({"step": 3, "token_accuracy": 0.5}, MEASURED) == "step 3, accuracy 0.500"
