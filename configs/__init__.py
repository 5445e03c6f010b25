"""Configurations: one file an experiment, each with its variants."""
