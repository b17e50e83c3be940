"""Every error that a user can fix.

PipelineError                 one line: what, where, what to do; exit code 2
├── ConfigError               a recipe, option or environment that cannot work
├── DataError                 a file whose content is not what it must be
├── MissingInputError         a file or folder that is not there
├── StaleInputError           an upstream stage was made with other settings
├── RunLockedError            another process works in this run directory
└── BackendError              an engine, server or device that refuses to work
    └── UnreachableError      a server that answers nobody

Anything else that escapes is a bug of ours and keeps its traceback (exit code 1).
"""


class PipelineError(Exception):
    """Base of all errors a user can fix; the message names what, where and what to do next."""


class ConfigError(PipelineError, ValueError):
    """A recipe, an option or the environment asks for something that cannot work."""


class DataError(PipelineError, ValueError):
    """A file's content is not what it must be; the message names file and row or key."""


class MissingInputError(PipelineError, FileNotFoundError):
    """A file or folder that a stage needs is not there."""


class StaleInputError(PipelineError):
    """An upstream stage's output was made with other settings than the recipe has now."""


class RunLockedError(PipelineError):
    """Another process is working in the same run directory."""


class BackendError(PipelineError, RuntimeError):
    """A sampler, judge, trainer or device could not do its work, after retries."""


class UnreachableError(BackendError):
    """A server that is not there, or refuses every call; `status` is the one it gave, if any."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status
