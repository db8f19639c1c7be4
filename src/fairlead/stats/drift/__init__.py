"""Drift of what people ask, from vectors of their requests.

`reference.fit` learns what is usual, `monitor.DriftMonitor` takes requests in and raises alarms,
`cause` says why, `topics` what the new content is about. These modules need numpy; nothing that
starts a process or serves a request may import them.
"""
