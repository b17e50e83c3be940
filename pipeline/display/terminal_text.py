"""Text that strangers and models wrote, made safe to print on a terminal."""

import unicodedata

# Joiners shape emoji and scripts (Persian, Hindi): they are text, not tricks.
_JOINERS = "\u200c\u200d"


def visible(text: str) -> str:
    """Text with control characters escaped, so that a row cannot drive the terminal.

    What is invisible or reorders its neighbours is escaped too; spaces of all widths are not.
    """
    return "".join(c if _is_harmless(c) else repr(c)[1:-1] for c in text)


def _is_harmless(character: str) -> bool:
    if character.isprintable() or character in "\n\t" or character in _JOINERS:
        return True
    return unicodedata.category(character) == "Zs"
