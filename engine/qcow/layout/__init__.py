"""On-disk structures of qcow2: bytes to immutable values and back.  No I/O happens here."""
