"""The wiring: which parts run in which process. The only place that knows everybody."""
