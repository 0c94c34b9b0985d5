"""Trains the adapter of the MiniLM bundle (PyTorch). `python -m export.adapt --help` lists the commands."""
