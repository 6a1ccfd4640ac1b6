"""Compaction in place: where everything shall lie, and getting it there in complete steps."""
