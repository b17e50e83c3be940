"""The command line: what there is to type, loaded when it is typed, and how it ends."""

from pipeline.cli.main import app, run_cli

__all__ = ["app", "run_cli"]
