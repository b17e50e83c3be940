"""Which data set a task could not get: read off the call that failed."""

import traceback

# Functions that fetch data, and the local variable that names what they fetch.
_FETCHERS = {
    "hf_dataset": "path",
    "load_dataset": "path",
    "load_dataset_builder": "path",
    "snapshot_download": "repo_id",
    "hf_hub_download": "repo_id",
    "json_dataset": "json_file",
    "csv_dataset": "csv_file",
}


def data_set_of(error: BaseException) -> str | None:
    """The data set that was being fetched when the error was raised; None where none was."""
    one: BaseException | None = error
    while one is not None:
        for frame, _ in traceback.walk_tb(one.__traceback__):
            named = frame.f_locals.get(_FETCHERS.get(frame.f_code.co_name, ""))
            if isinstance(named, str):
                return named
        one = one.__cause__ or one.__context__
    return None
