"""Ratios against qemu-img on the same work: ``python -m benchmarks``."""
