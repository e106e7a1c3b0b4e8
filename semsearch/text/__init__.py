"""Tokens, snippets and near-duplicate texts."""
