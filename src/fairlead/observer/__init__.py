"""The observer: takes records from the gateway's spool into the store, exactly once."""
