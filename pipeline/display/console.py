"""Rich's console, on which no text of others can drive the terminal.

Rich keeps text, style and its own movements of the cursor apart until it writes them: whatever a
table or a line was made of, its text is made visible there, and nothing has to be asked before.
"""

from collections.abc import Iterable

from rich import console
from rich.segment import Segment

from pipeline.display.terminal_text import visible


class Console(console.Console):
    """A console for everything that the commands print with colours or in tables."""

    def _render_buffer(self, buffer: Iterable[Segment]) -> str:
        return super()._render_buffer(
            Segment(text if control else visible(text), style, control)
            for text, style, control in buffer
        )

    def on_broken_pipe(self) -> None:
        """A reader of stdout that has left is told by the command line; without one of stderr, what
        is done goes on.
        """
        if not self.stderr:
            raise
        self.quiet = True
