"""Offline: files on disk become an index."""
