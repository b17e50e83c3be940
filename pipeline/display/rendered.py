"""A rendered conversation on a terminal: what is trained in colour, what is not in grey."""

from typing import Any

from rich.text import Text

from pipeline.display.console import Console
from pipeline.display.terminal_text import visible


def show_rendered(number: int, record: dict[str, Any], renderer: Any) -> None:
    """Print one record of `rendered_rows`."""
    console = Console()
    if "error" in record:
        console.print(Text(f"{number}: {visible(record['error'])}", style="red"))
        return
    console.print(in_colour(number, record, renderer))


def in_colour(number: int, record: dict[str, Any], renderer: Any) -> Text:
    """The text of a record, token by token."""
    text = Text(f"{number}: ", style="bold")
    text.append(visible(record["prompt_text"]), style="dim")
    before = list(record["prompt_ids"])
    for token, trained in zip(record["completion_ids"], record["trained"], strict=True):
        piece = renderer.in_place.text(before, [token])
        text.append(visible(piece), style="bold green" if trained else "dim")
        before.append(token)
    if record["neutralised"]:
        text.append(f"  [{record['neutralised']} places neutralised]", style="yellow")
    return text
