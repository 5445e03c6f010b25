"""Few-shot learning on grid puzzles (ARC): the self-edit is a recipe of test-time training."""
