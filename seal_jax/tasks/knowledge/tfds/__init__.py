"""SQuAD v1.1 by passage through TensorFlow Datasets, without TensorFlow; see docs/data.md."""
