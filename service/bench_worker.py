"""The process in which `stemwright bench` measures one device and precision."""

import json
import resource
import sys
import time
from pathlib import Path

import numpy as np

from stemwright.core.audio.source import ArraySource
from stemwright.core.errors import StemwrightError
from stemwright.models.query.queries import FixedSource
from stemwright.models.registry.store import ModelStore
from stemwright.models.separation.queries import StemQuery
from stemwright.models.separation.separator import SeparationOptions, Separator
from stemwright.models.sessions.opening import PrecisionChoice, SessionOptions


def main(model: str, audio: str, rate: int, device: str, precision: PrecisionChoice, threads: int) -> None:
    """Load and warm up, then separate once for each line on standard input.

    Prints a line of JSON when ready, and one for each turn: seconds of wall and CPU time, and the
    peak of memory so far (KiB). A failure of ours is printed as `error`.
    """
    options = SessionOptions(
        device=device,
        precision=precision,
        threads=threads or None,
    )
    source = ArraySource(np.load(audio), rate)
    try:
        place: str | Path = Path(model) if Path(model).exists() else model
        with Separator.open(place, options=options, store=ModelStore()) as separator:
            _turn(separator, source)
            facts = next(iter(separator.facts.values()))
            _say({"ready": True, "runtime": facts.runtime, "precision": facts.precision})
            for _ in sys.stdin:
                _say(_turn(separator, source))
    except StemwrightError as error:
        _say({"error": error.message})


def _turn(separator: Separator, source: ArraySource) -> dict[str, float]:
    queries: tuple[StemQuery, ...] = ()
    if separator.query_rules is not None:  # one that is never silent: what is measured is the network
        everything = np.ones(separator.query_rules.size, np.float32)
        queries = (StemQuery(name="everything", source=FixedSource(value=everything)),)
    cpu, wall = time.process_time(), time.perf_counter()
    for _ in separator.separate(source, SeparationOptions(queries=queries)):
        pass
    return {
        "wall_s": time.perf_counter() - wall,
        "cpu_s": time.process_time() - cpu,
        "peak_kib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
    }


def _say(data: object) -> None:
    sys.stdout.write(json.dumps(data) + "\n")
    sys.stdout.flush()
