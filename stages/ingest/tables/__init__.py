"""From what was read to the four tables: ids, splits, sides, rejects."""
