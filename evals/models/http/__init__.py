"""Calls to OpenAI-compatible servers: what judges and samplers share."""
