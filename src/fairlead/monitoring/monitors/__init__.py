"""The monitors: each watches one thing of one release, from what it served. No I/O, no clock."""
