"""Bytes at rest: the only package that calls the operating system.

``base`` is the seam everything above reads through, ``local`` and ``memory`` fill it, ``locks``
speaks QEMU's lock protocol, ``holders`` names who has a file open, and ``gate`` is the single place
where a second file (a backing file, a data file) is opened.
"""
