"""Sends alerts to where they are declared to go, again until they arrive or it is given up."""
