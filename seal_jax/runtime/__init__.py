"""What the process lives in: hosts, signals, progress, metrics."""
