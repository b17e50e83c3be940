"""From what was read to the tables: ids, splits, sides, rejects."""
