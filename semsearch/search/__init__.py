"""The path of a query through an index."""
