"""The rows of the benchmark: one module for each thing that is measured."""
