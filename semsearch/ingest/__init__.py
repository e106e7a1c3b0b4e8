"""Documents to a published index."""
