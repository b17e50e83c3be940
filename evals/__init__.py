"""What is measured and how: judges, models, statistics and benchmarks, usable without a run."""
