"""What a reply says: the grammar of verdicts, and the rules by which one is read."""
