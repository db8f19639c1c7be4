"""What the worker says of itself: records and metrics."""
