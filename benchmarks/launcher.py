"""Run a program and print what it cost; a script of its own, started with ``python -I -S``.

Linux counts the memory of the process that starts another one towards the peak of the started one.
So the one that starts it has to be small, which a test run or a benchmark is not.
"""

import os
import sys
import time

if __name__ == "__main__":
    argv = sys.argv[1:]
    with open(os.devnull, "r+b") as null:
        files = [(os.POSIX_SPAWN_DUP2, null.fileno(), number) for number in (0, 1, 2)]
        started = time.perf_counter()
        pid = os.posix_spawnp(argv[0], argv, os.environ, file_actions=files)
        _, status, used = os.wait4(pid, 0)
        wall = time.perf_counter() - started
    # Linux counts ru_maxrss in KiB.
    print(
        wall,
        used.ru_utime + used.ru_stime,
        used.ru_maxrss * 1024,
        os.waitstatus_to_exitcode(status),
    )
