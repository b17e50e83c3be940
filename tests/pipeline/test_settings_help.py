"""The live table and the settings in the help, in the width that a terminal has."""

from pipeline.chain import BY_NAME
from pipeline.progress import fitting_columns
from pipeline.settings_help import settings_help


def test_columns_that_fit_are_shown_and_no_others() -> None:
    # 8 or the name's length, and a space on either side: 10 + 10 + 20.
    columns = ("step", "loss", "rewards/accuracies")
    assert fitting_columns(columns, 40) == ["step", "loss", "rewards/accuracies"]
    assert fitting_columns(columns, 39) == ["step", "loss"]
    assert fitting_columns(columns, 3) == ["step"]


def test_settings_shared_by_kinds_are_said_once() -> None:
    text = settings_help(BY_NAME["ingest"])
    assert "[cyan]datasets.kind[/cyan] = food | hh |" in text
    assert text.count("datasets.hub_id[/cyan]") == 1
    path = next(line for line in text.split("\n\n") if "datasets.path[" in line)
    assert path.endswith("[dim](not food)[/dim]")
