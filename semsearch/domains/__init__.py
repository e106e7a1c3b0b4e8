"""Domains of an index: judgments, adaptation, versions, recommendations, tuning."""
