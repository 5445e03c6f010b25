"""Parity with PyTorch, transformers and PEFT: live where they are installed, stored values else."""
