"""inspect-ai benchmarks: our tasks, our provider, and what was measured."""
