"""Streams: events, and going on with one that broke."""
