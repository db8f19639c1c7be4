"""llama.cpp by xllamacpp: `engine` says how to launch it, `__main__` is the server process.

This file imports nothing, because the server process imports it.
"""
