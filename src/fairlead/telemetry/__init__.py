"""The telemetry store: request records for the long term, in Parquet files that DuckDB reads.

`telemetry/` below the state folder holds

    catalogue.db        which files count, and how far each spool has been taken in (SQLite)
    data/KIND/HOUR/SERVICE/NAME.parquet
    damaged/            files that could not be read, set aside
    tmp/                files that are being written

A file is written aside, synced and renamed before one transaction of the catalogue makes it count,
together with the cursors of the spools that its records came from. So after a kill at any moment
each record is there once: what the catalogue does not have is read from the spool again, and from
files that it does not know the next start takes what no other has. Files are never changed. Merging
and deleting are transactions of the same kind; a file that counts no longer stays for a while, for
who reads it.
"""
