"""Does a provider still answer as it did? Decided from answers to pinned probes; no I/O."""
