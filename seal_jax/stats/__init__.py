"""Means, intervals, reliabilities, and what the best of several gains."""
