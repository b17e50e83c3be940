"""Conversations to tokens and back, with one rule for all who train, sample, judge or evaluate.

`docs/design/chat-rendering.md` says the rule. Everything else uses `renderer.ChatRenderer`.
"""
