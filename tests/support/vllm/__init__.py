"""vLLM's own server on the CPU: its environment, its processes, what is read of its streams."""
