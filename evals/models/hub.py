"""Which commit of a hub a model stands for: found out once, and the same from then on.

A branch moves on, and its weights with it. What is found out is kept for this process, and a run
writes it down, so that all of its stages read the same commit whenever they are run.
"""

import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

_COMMIT = re.compile("[0-9a-f]{40}")
_SECONDS = 20.0

_pins: dict[str, str] = {}


def is_path(model: str) -> bool:
    """Whether a model's name can only be a folder's: no hub has such ids."""
    return model.startswith((".", "/", "~")) or model.count("/") > 1


def pins() -> Mapping[str, str]:
    """The commits that are known, by `id@revision`."""
    return _pins


def pin(known: Mapping[str, str]) -> None:
    """Hold on to commits that a run has written down; what does not look like one is left out."""
    _pins.update({k: v for k, v in known.items() if _COMMIT.fullmatch(str(v))})


def forget_pins() -> None:
    """Know no commits any more: another run has its own."""
    _pins.clear()


def hub_key(model: str, revision: str | None) -> str:
    """Under which name a pin is written down."""
    return f"{model}@{revision or 'main'}"


def commit_of(model: str, revision: str | None, *, ask: bool = True) -> str | None:
    """The commit of a hub id, 40 hex digits: the one held on to, or the one that is there now.

    The hub is asked where it can be; else the cache on disk says what was downloaded last.

    Args:
        model: a hub id.
        revision: a commit, branch or tag; None means main.
        ask: whether the hub may be asked; without, nothing is held on to.

    Returns:
        None where neither the hub nor the cache knows the model: opening it then says why.
    """
    if revision and _COMMIT.fullmatch(revision):
        return revision
    known = _pins.get(hub_key(model, revision))
    if known:
        return known
    found = (_asked(model, revision) if ask else None) or _downloaded(model, revision)
    if found and ask:
        _pins[hub_key(model, revision)] = found
    return found


def _asked(model: str, revision: str | None) -> str | None:
    # Loaded here: most runs have no model of a hub, and status asks none.
    from huggingface_hub import HfApi, constants

    if constants.HF_HUB_OFFLINE:
        return None
    with suppress(Exception):  # no network, no such model, no access: opening it says which
        return HfApi().model_info(model, revision=revision, timeout=_SECONDS).sha
    return None


def _downloaded(model: str, revision: str | None) -> str | None:
    """The commit that a branch or tag was at when it was last downloaded."""
    # Loaded here as above.
    from huggingface_hub import constants

    folder = Path(constants.HF_HUB_CACHE) / f"models--{model.replace('/', '--')}"
    with suppress(OSError, UnicodeDecodeError):
        commit = (folder / "refs" / (revision or "main")).read_text(encoding="ascii").strip()
        if _COMMIT.fullmatch(commit):
            return commit
    return None
