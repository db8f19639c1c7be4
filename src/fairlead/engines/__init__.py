"""How a release becomes a running server: one engine per way of running a model.

`fairlead.engines.launching.launch` turns a release into a `Launch`; a target runs it. This file
imports nothing, because every replica of an engine of ours imports it.
"""
