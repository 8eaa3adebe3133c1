"""Running a hostile input in a process of its own, whose memory is measured and bounded."""

from __future__ import annotations

import subprocess
import sys
import textwrap

_FRAME = """
import resource, sys
{setup}
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
limit = 64 * 2**30
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
{code}
print("PEAK", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def peak_of(setup: str, code: str, *arguments: object, seconds: int = 120) -> int:
    """Bytes of memory that `code` took beyond those after `setup`; both find the arguments in sys.argv.

    The process may reserve 64 GiB, so that what would take it all is an error here, too, and not a killed machine.
    """
    frame = _FRAME.format(setup=textwrap.dedent(setup), code=textwrap.dedent(code))
    command = [sys.executable, "-c", frame, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return 1024 * int(done.stdout.rsplit("PEAK", 1)[1])
