"""The explain command: one setting, or a section of them."""

import json
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from pipeline.commands.options import JsonOption
from pipeline.display.console import Console
from pipeline.display.terminal_text import say_json
from pipeline.settings.catalogue import SECTIONS, Setting
from pipeline.settings.explanation import Explanation, explain
from pipeline.settings.help_text import default_words


def explain_setting(
    key: Annotated[
        str, typer.Argument(help="A setting or a section, such as train.loss or sample.n.")
    ] = "",
    as_json: JsonOption = False,
) -> None:
    """Explain a setting of recipes: its default, its meaning, legal values, an example."""
    if not key:
        return _list_sections(as_json)
    found = explain(key)
    if as_json:
        say_json(json.dumps(_as_json(found), ensure_ascii=False))
    else:
        _show(found)


def _list_sections(as_json: bool) -> None:
    said = {name: " ".join((model.__doc__ or "").split()) for name, model in SECTIONS.items()}
    if as_json:
        say_json(json.dumps(said))
        return
    Console().print(_table([(name, words) for name, words in said.items()]))


def _as_json(found: Explanation) -> dict[str, Any]:
    return {
        "key": found.key,
        "meaning": found.meaning,
        "declared": [_setting_json(one) for one in found.settings],
        "inside": [_setting_json(one) for one in found.inside],
        "example": found.toml,
        "set": found.override,
    }


def _setting_json(one: Setting) -> dict[str, Any]:
    return {
        "key": one.key,
        "default": one.default,
        "required": one.default is None,
        "legal": one.legal,
        "meaning": one.meaning,
        "kinds": list(one.kinds),
    }


def _show(found: Explanation) -> None:
    console = Console(highlight=False)
    console.print(Text.assemble((found.key, "bold cyan"), f": {found.meaning}"))
    _print(console, "", _facts(found))
    _print(console, "kinds", _kinds(found))
    _print(console, "settings in it", _rows(found))
    console.print(Text("\nexample", style="bold"))
    console.print(Padding(Text(f"{found.toml}\n\n{found.override}"), (0, 0, 0, 2)))


def _print(console: Console, title: str, rows: Sequence[tuple[str, str]]) -> None:
    if rows and title:
        console.print(Text(f"\n{title}", style="bold"))
    if rows:
        console.print(Padding(_table(rows), (0, 0, 0, 2)))


def _facts(found: Explanation) -> list[tuple[str, str]]:
    """Default and legal values; where kinds differ, which of them has which."""
    settings, differ = found.settings, len(found.settings) > 1
    if not settings:
        return []
    rows = [
        ("default", _by_kind([(one, _default(one, found)) for one in settings], differ)),
        ("legal", "; ".join(dict.fromkeys(one.legal for one in settings))),
    ]
    others = [one for one in settings if one.meaning != found.meaning]
    if others:
        rows.append(("also", _by_kind([(one, one.meaning) for one in others], differ)))
    if settings[0].kinds and not differ:
        rows.append(("only in", ", ".join(settings[0].kinds)))
    return rows


def _by_kind(said: Sequence[tuple[Setting, str]], differ: bool) -> str:
    words = (f"{text} ({', '.join(one.kinds)})" if differ else text for one, text in said)
    return "; ".join(words)


def _default(one: Setting, found: Explanation) -> str:
    if one.default is None:
        return "none: it must be given"
    kind = next((s.default for s in found.inside if s.key == f"{one.key}.kind"), None)
    return one.default or (f"kind {kind}" if kind else "a section of defaults")


def _kinds(found: Explanation) -> list[tuple[str, str]]:
    """What each kind of a section is, off the first line of its declaration."""
    members = found.settings[0].members if found.settings else None
    return [
        (kind, (model.__doc__ or "").strip().splitlines()[0])
        for kind, model in (members or {}).items()
        if kind and not kind.isdigit()
    ]


def _rows(found: Explanation) -> list[tuple[str, str]]:
    """A row per setting of a section; a section in it is one row."""
    start = found.settings[0].key if found.settings else ""
    return [
        (
            f"{one.key.removeprefix(start).lstrip('.')}{default_words(one)}",
            f"{one.meaning} ({_legal(one, found)})".lstrip(),
        )
        for one in found.inside
        if one.group == start
    ]


def _legal(one: Setting, found: Explanation) -> str:
    section = found.key.partition(".")[0]
    words = f"{one.legal}: prefline explain {section}.{one.key}" if one.members else one.legal
    return f"{words}; only {', '.join(one.kinds)}" if one.kinds else words


def _table(rows: Sequence[tuple[str, str]]) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="cyan", overflow="fold", max_width=34)
    table.add_column(overflow="fold")
    for left, right in rows:
        table.add_row(Text(left), Text(right))
    return table
