"""The state and threads of a running server: batching, encoders, background workers, metrics."""
