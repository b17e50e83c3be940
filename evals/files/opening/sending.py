"""A new folder to fill, here or on a remote store: there whole or not at all."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from evals.files.opening.places import is_remote
from evals.files.opening.remote import asked, store_of
from schemas.errors import ConfigError
from schemas.files import writing_folder


@contextmanager
def new_folder(where: str) -> Iterator[Path]:
    """A local folder to fill, which is at `where` when the block ends without an error.

    What goes to a store is filled beside and then sent; what was sent of a sending that fails is
    taken away again.

    Raises:
        ConfigError: something is there already.
        BackendError: the store cannot be reached, or its package is not installed.
    """
    if not is_remote(where):
        place = Path(where).expanduser()
        if os.path.lexists(place) and not (place.is_dir() and not any(place.iterdir())):
            raise _taken(where)
        with writing_folder(place) as working:
            yield working
        return
    store, inside = store_of(where)
    if asked(where, lambda: store.exists(inside)):
        raise _taken(where)
    with tempfile.TemporaryDirectory() as made:
        yield Path(made)
        _send(where, Path(made))


def _send(where: str, folder: Path) -> None:
    store, inside = store_of(where)
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    targets = [f"{inside.rstrip('/')}/{path.relative_to(folder).as_posix()}" for path in files]
    sent: list[str] = []
    try:
        for path, target in zip(files, targets, strict=True):
            sent.append(target)
            asked(where, lambda p=path, t=target: store.put_file(str(p), t))  # type: ignore[misc]
    except BaseException:
        for target in sent:
            with suppress(Exception):
                store.rm_file(target)
        raise


def _taken(where: str) -> ConfigError:
    return ConfigError(f"{where}: exists; delete it or choose another folder")
