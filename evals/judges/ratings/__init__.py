"""Judging each completion by itself: ratings read, made into verdicts, and paid for once."""
