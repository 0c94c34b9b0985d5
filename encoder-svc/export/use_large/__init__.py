"""Converts Universal Sentence Encoder large to an encoder bundle (TensorFlow). Run `python -m export.use_large --help`."""
