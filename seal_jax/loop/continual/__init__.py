"""Continual self-edits: one passage after another into the same weights."""
