"""Attention over packed trees, by kernels that each device is good at."""
