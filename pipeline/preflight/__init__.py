"""What would stop a run later, found before anything is paid for."""

from pipeline.preflight.checks import problems, refuse, warnings
from pipeline.preflight.servers import server_problems
from pipeline.preflight.tasks import OWN_TASKS

__all__ = ["OWN_TASKS", "problems", "refuse", "server_problems", "warnings"]
