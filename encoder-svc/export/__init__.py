"""Encoder bundles: how they are made, written and checked. Run with the parent folder on PYTHONPATH."""
