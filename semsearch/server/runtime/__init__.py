"""What runs between requests: batching, encoders, background workers, metrics."""
