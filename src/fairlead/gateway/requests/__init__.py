"""One request, from its body to the record of it."""
