"""Messages between the planes: the snapshot that control gives the gateway, the records that the
gateway gives the observer, and the framing of the spool that carries them."""
