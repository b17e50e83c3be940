"""Commands that need no recipe: models compared, judges measured, win rates recomputed."""
