"""The settings in the help."""

from pipeline.display.settings_help import settings_help
from pipeline.stage_registry import BY_NAME


def test_settings_shared_by_kinds_are_said_once() -> None:
    text = settings_help(BY_NAME["ingest"])
    assert "[cyan]datasets.kind[/cyan] = food | instructions | hh |" in text
    assert text.count("datasets.hub_id[/cyan]") == 1
    path = next(line for line in text.split("\n\n") if "datasets.path[" in line)
    assert path.endswith("[dim](not food, instructions)[/dim]")
