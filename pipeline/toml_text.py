"""Settings as the text of a recipe."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

_BARE = re.compile(r"[A-Za-z0-9_-]+")


def toml_text(tree: Mapping[str, Any]) -> str:
    """A tree of settings as TOML; what is None is left out, which is its default."""
    return "\n".join(_table(tree, ())).lstrip("\n") + "\n"


def _table(tree: Mapping[str, Any], above: tuple[str, ...]) -> Iterator[str]:
    inner: dict[str, Any] = {}
    for key, value in tree.items():
        if value is None:
            continue
        if isinstance(value, Mapping) or _is_tables(value):
            inner[key] = value
        else:
            yield f"{_key(key)} = {toml_value(value)}"
    for key, value in inner.items():
        path = (*above, key)
        name = ".".join(map(_key, path))
        for table, head in (
            [(one, f"[[{name}]]") for one in value]
            if not isinstance(value, Mapping)
            else [(value, f"[{name}]")]
        ):
            yield f"\n{head}" if not above else head
            yield from _table(table, path)


def _is_tables(value: Any) -> bool:
    return isinstance(value, list | tuple) and bool(value) and isinstance(value[0], Mapping)


def _key(key: str) -> str:
    return key if _BARE.fullmatch(key) else json.dumps(key, ensure_ascii=False)


def toml_value(value: Any) -> str:
    """One value that is no table of its own."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(toml_value, value))}]"
    if isinstance(value, Mapping):
        inside = ", ".join(f"{_key(k)} = {toml_value(v)}" for k, v in value.items())
        return f"{{{inside}}}"
    # JSON's escapes are TOML's, but for the one of DEL.
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
