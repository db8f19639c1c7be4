"""Numbers in, verdict out: sequential tests, intervals, paired comparisons.

Imports nothing of ours. Nothing here reads a clock or draws a random number. Wrong arguments
raise `ValueError`.
"""
