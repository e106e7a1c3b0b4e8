"""Tests of semsearch.learning."""
