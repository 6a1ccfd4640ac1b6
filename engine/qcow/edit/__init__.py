"""Changing an image: plan, shadow commit, undo (docs/safety.md has the promises)."""
