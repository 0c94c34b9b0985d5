"""Makes, writes and checks encoder bundles. Run its modules with the parent folder on PYTHONPATH."""
