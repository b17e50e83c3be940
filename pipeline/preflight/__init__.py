"""What would stop a run later, found before anything is paid for."""

from pipeline.preflight.checks import problems, refuse, warnings
from pipeline.preflight.hub import hub_problems
from pipeline.preflight.servers import server_problems
from pipeline.preflight.tasks import OWN_TASKS
from pipeline.preflight.templates import (
    chat_models,
    template_problems,
    template_problems_in_a_child,
)

__all__ = [
    "OWN_TASKS",
    "chat_models",
    "hub_problems",
    "problems",
    "refuse",
    "server_problems",
    "template_problems",
    "template_problems_in_a_child",
    "warnings",
]
