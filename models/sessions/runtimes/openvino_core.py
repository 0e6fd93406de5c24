"""The one OpenVINO core of a process.

Each core that is made puts an alternate signal stack under the thread that makes it and takes it away
when it is destroyed, whatever came after. Of two cores that end in the order in which they were made, the
second leaves the thread on a stack that is no longer mapped, and the next Ctrl-C or SIGTERM ends the
process with SIGSEGV (OpenVINO 2026.4). One core that lives as long as the process has no such order.
"""

from functools import lru_cache

import openvino as ov


@lru_cache(maxsize=1)
def openvino_core() -> ov.Core:
    """Return the process's core."""
    return ov.Core()
