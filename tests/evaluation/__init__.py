"""Tests of semsearch.evaluation."""
