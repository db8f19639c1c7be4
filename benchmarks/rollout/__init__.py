"""How often the judge is wrong, how soon it decides, and how others fare: see `__main__`."""
