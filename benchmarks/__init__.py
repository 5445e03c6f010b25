"""Side-by-side measurements on the machine at hand; `python -m benchmarks.run` starts them."""
