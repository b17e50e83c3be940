"""Data on remote stores."""

from collections.abc import Iterator

from evals.files.opening.places import is_remote
from pipeline.preflight.places import sections_of
from pipeline.recipe import Recipe
from schemas.errors import PipelineError
from stages.ingest.datasets.config import FileDataset


def unreachable_data(recipe: Recipe) -> Iterator[str]:
    """Addresses under which there is nothing, or whose store does not answer."""
    for _, dataset in sections_of(recipe, FileDataset):
        if dataset.path is None or not is_remote(dataset.path):
            continue
        from evals.files.opening.remote import remote_files

        try:
            remote_files(dataset.path, dataset.suffixes)
        except PipelineError as error:
            yield str(error)
