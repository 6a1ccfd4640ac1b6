"""The images that are measured: written once, sparse, and kept for the next time."""
