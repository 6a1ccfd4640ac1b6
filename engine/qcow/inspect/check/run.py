"""One check from start to end: count, compare, unpack, report."""

from __future__ import annotations

from ...findings import Severity
from ...image.image import Image
from ...jobs import CancelToken, ProgressCallback, Throttle
from .checker import Checker
from .report import report
from .result import CheckResult


def run(
    image: Image,
    *,
    progress: ProgressCallback | None,
    cancel: CancelToken | None,
    decode: bool,
) -> CheckResult:
    """See :func:`qcow.inspect.check.check`."""
    geometry = image.geometry
    if geometry is None:
        errors = sum(finding.severity is Severity.ERROR for finding in image.problems)
        return CheckResult(check_errors=max(1, errors), findings=image.problems)
    checker = Checker(image, geometry, progress, cancel)
    checker.run()
    collector = checker.collector
    total = sum(facts.compressed for facts in checker.facts)
    if decode and total:
        from .streams import StreamCheck  # most images need no decompressor

        tell = Throttle(progress)

        def between(done: int) -> None:
            checker.check_cancel()
            tell("unpacking compressed clusters", min(done, total), total)

        StreamCheck(image, geometry, checker.space, collector).run(
            checker.windows, checker.facts, between
        )
        between(total)
    findings = report(image, geometry, checker, checker.check_cancel)
    return CheckResult(
        corruptions=collector.corruptions,
        leaks=collector.leaks,
        check_errors=collector.check_errors,
        image_end_offset=(checker.highest + 1) << geometry.cluster_bits,
        total_clusters=geometry.clusters(image.virtual_size),
        allocated_clusters=checker.allocated,
        fragmented_clusters=checker.fragmented,
        compressed_clusters=checker.compressed,
        findings=findings,
        extra_corruptions=collector.extra_corruptions + _seen_at_opening(image, checker),
        extra_leaks=collector.extra_leaks,
    )


def _seen_at_opening(image: Image, checker: Checker) -> int:
    """Damage that opening found and qemu-img does not count."""
    seen = sum(finding.severity is Severity.CORRUPTION for finding in image.problems)
    return max(0, seen - checker.wrong_l1)
