"""What a check found."""

from __future__ import annotations

from ...findings import Finding
from ...record import record


@record
class CheckResult:
    """The numbers of ``qemu-img check``, and what they mean.

    ``corruptions``, ``leaks`` and ``check_errors`` count as qemu-img counts; what it does not see
    is counted in ``extra_corruptions`` and ``extra_leaks``.  The cluster counts are those of the
    active state.  ``image_end_offset`` is in bytes.  ``findings`` are grouped by root cause, worst
    first.
    """

    corruptions: int = 0
    leaks: int = 0
    check_errors: int = 0
    image_end_offset: int = 0
    total_clusters: int = 0
    allocated_clusters: int = 0
    fragmented_clusters: int = 0
    compressed_clusters: int = 0
    findings: tuple[Finding, ...] = ()
    extra_corruptions: int = 0
    extra_leaks: int = 0

    @property
    def exit_code(self) -> int:
        """1: could not check everything, 2: corrupt, 3: only leaks, 0: no errors."""
        if self.check_errors:
            return 1
        if self.corruptions or self.extra_corruptions:
            return 2
        return 3 if self.leaks or self.extra_leaks else 0
