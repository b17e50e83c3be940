import pytest

from evals.benchmarks.dataset_errors import data_set_of


def load_dataset(path: str) -> None:
    raise ConnectionError("no route to host")


def task() -> None:
    try:
        load_dataset("some/data")
    except ConnectionError as error:
        raise RuntimeError("the task could not be made") from error


def test_the_data_set_is_named_by_the_call_that_failed() -> None:
    with pytest.raises(RuntimeError) as caught:
        task()
    assert data_set_of(caught.value) == "some/data"


def test_other_errors_name_none() -> None:
    with pytest.raises(ValueError, match="one") as caught:
        int("one")
    assert data_set_of(caught.value) is None
