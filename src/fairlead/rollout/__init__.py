"""Rollouts: the plan, the judge and the state machine. Deciders only: no I/O, no clock."""
