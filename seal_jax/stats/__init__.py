"""Means, intervals and reliabilities."""
