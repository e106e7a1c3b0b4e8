"""Judged queries to measures, intervals, tables and plots."""
