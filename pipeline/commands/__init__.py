"""The commands around the stages: looking at runs and tables, exporting, recomputing."""
