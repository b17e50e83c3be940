"""Contracts: what the stages say to each other. Standard library, pydantic and pyarrow only."""
