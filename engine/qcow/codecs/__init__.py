"""Compression (and later ciphers) of cluster contents."""
