"""Files that others have written, and tables as files: read whole, refused in one line."""
