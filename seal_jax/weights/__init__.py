"""Into and out of the model: checkpoints, GGUF files, tokenizers and the demo model."""
