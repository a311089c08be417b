"""A tiny model and data, and the demonstration run with injected faults."""
