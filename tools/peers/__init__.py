"""Compares the services with other servers of text embeddings; see __main__.py."""
