"""What a built index is on disk and how it is read."""
