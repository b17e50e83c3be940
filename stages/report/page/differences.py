"""Where two texts differ, word by word."""

import re
from collections.abc import Sequence
from difflib import SequenceMatcher

from markupsafe import Markup

from evals.safe_text import visible

_WORDS = re.compile(r"\s+|\w+|[^\w\s]")
_MAX_WORDS = 1500

# Two texts that share less than this have nothing to compare: all of it would be marked.
_MIN_SHARED = 0.3


def marked(first: str, second: str) -> tuple[Markup, Markup]:
    """Both texts, escaped, with `<mark>` around words that only one of them has.

    Texts that are long, or share little, are left unmarked.
    """
    a, b = _WORDS.findall(first), _WORDS.findall(second)
    matcher = SequenceMatcher(None, a, b, autojunk=False)
    if max(len(a), len(b)) > _MAX_WORDS or matcher.real_quick_ratio() < _MIN_SHARED:
        return visible(first), visible(second)
    blocks = matcher.get_matching_blocks()
    shared = sum(not w.isspace() for k in blocks for w in a[k.a : k.a + k.size])
    if 2 * shared < _MIN_SHARED * sum(not w.isspace() for w in [*a, *b]):
        return visible(first), visible(second)
    sides = [
        [(block.a, block.size) for block in blocks],
        [(block.b, block.size) for block in blocks],
    ]
    return _side(a, sides[0]), _side(b, sides[1])


def _side(words: Sequence[str], shared: Sequence[tuple[int, int]]) -> Markup:
    parts: list[Markup] = []
    end = 0
    for start, size in shared:
        own = "".join(words[end:start])
        if own.strip():
            parts.append(Markup("<mark>{}</mark>").format(visible(own)))
        else:
            parts.append(visible(own))
        parts.append(visible("".join(words[start : start + size])))
        end = start + size
    return Markup("").join(parts)
