"""Audit: a person judges pairs blind, in a browser, and every answer is on disk at once."""
