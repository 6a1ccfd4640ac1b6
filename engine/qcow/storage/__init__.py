"""Bytes at rest: the only package that calls the operating system.

``base`` is the seam everything above reads and writes through; ``local``, ``writable`` and
``memory`` fill it.  ``locks`` speaks QEMU's lock protocol, ``holders`` names who has a file open
(``device_users``: what the kernel does with a device), ``small_files`` keeps our own state, and
``gate`` is the single place where a second file (a backing file, a data file) is opened.
"""
