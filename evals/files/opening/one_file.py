"""The one file of rows that a path means: a file, what save_to_disk wrote, a remote address."""

from pathlib import Path

from evals.files.opening.places import is_remote, local_files
from evals.files.opening.remote import data_files
from schemas.errors import DataError, MissingInputError


def one_file(text: str, what: str = "file") -> Path:
    """The local file of a path or an address; a remote one is fetched once.

    A folder means the one data file in it: `save_to_disk` writes a data set of ordinary size so.

    Raises:
        MissingInputError: nothing is there.
        BackendError: a store cannot be reached.
        DataError: a folder of several files.
    """
    path = Path(text).expanduser()
    if is_remote(text):
        found = data_files(text)
    elif path.is_dir():
        found = local_files(str(path))
    elif path.is_file():
        return path
    else:
        raise MissingInputError(f"{text}: no such {what}; correct its path")
    if len(found) > 1:
        raise DataError(
            f"{text}: holds {len(found)} files, and one is asked for; name one of them, "
            f"as {found[0][0]}"
        )
    return found[0][1]
