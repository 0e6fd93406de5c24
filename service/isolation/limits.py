"""What a decoding process may use."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class DecodeLimits:
    """Limits of one decoding process. The defaults are chosen here.

    Parameters
    ----------
    max_audio_s
        Longest recording in seconds, by its header and by what is really decoded.
    memory_bytes
        Address space (RLIMIT_AS); interpreter and libraries take 0.2 GiB of it.
    stall_s
        Longest time in which nothing is heard of the process while it is waited for.
    cpu_s
        Processor time of opening, or of one reading of the whole recording.
    """

    max_audio_s: float = 6 * 3600.0
    memory_bytes: int = 1 << 30
    stall_s: float = 30.0
    cpu_s: int = 600
