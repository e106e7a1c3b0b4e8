"""Text processing: tokens, snippets and near-duplicates."""
