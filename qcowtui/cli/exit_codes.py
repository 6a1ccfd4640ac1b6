"""What the process ends with: qemu-img's numbers, and the shell's for a run that was cut short."""

from __future__ import annotations

from typing import Final

OK: Final = 0
#: Anything that could not be done, and a request that makes no sense.
ERROR: Final = 1

# check
CHECK_ERRORS: Final = 1  # not everything could be checked
CHECK_CORRUPTIONS: Final = 2
CHECK_LEAKS: Final = 3
CHECK_UNSUPPORTED: Final = 63  # the format has no check

# compare
COMPARE_DIFFERENT: Final = 1
COMPARE_NOT_OPENED: Final = 2
COMPARE_NOT_MAPPED: Final = 3
COMPARE_NOT_READ: Final = 4

# audit
AUDIT_FAILED: Final = 1

# rescue
RESCUE_INCOMPLETE: Final = 2

#: 128 + the signal, as shells report it.
INTERRUPTED: Final = 130
BROKEN_PIPE: Final = 141
