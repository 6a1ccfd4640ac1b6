"""Sample images for the demo and the tests, built deterministically and without QEMU."""
