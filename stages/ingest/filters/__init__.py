"""Filters: rules that leave rows out, each under its own name, with a reason for every row."""
