"""The local grader: rules, and features that are weighed; no model."""
