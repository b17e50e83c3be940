"""Files of rows as they lie there: where they are, what they are, and how they are unpacked."""
