"""Filters on document metadata: the tree, its expression syntax, and how values compare."""
