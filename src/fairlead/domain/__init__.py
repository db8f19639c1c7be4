"""The shared nouns: releases, verdicts, errors. This room imports no other room."""
