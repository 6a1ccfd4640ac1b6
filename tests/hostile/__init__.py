"""Damaged and malicious images: a corpus that is generated, and what must become of each."""
