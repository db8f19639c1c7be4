"""Standing tests over the outcomes and times of live traffic: numbers in, evidence out.

Each is fed one observation at a time, keeps a bounded state in JSON's types that resumes exactly,
and says when the evidence suffices. What an alarm says is in `docs/monitors.md`.
"""
