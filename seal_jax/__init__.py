"""Self-adapting language models (SEAL) in JAX."""
