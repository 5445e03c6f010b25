"""What a run leaves on disk: ledger, checkpoints, run directory, locks, storage."""
