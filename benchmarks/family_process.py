"""One network on one device, in a process of its own: the other half of model_families.py.

    python benchmarks/family_process.py ORDER

ORDER is an `Order` as JSON; the last line printed is the list of its `Row`s.
"""

import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from statistics import median

import numpy as np
import soundfile
from family_rows import Order, Row
from pydantic import TypeAdapter

from stemwright.core.arrays import FloatArray
from stemwright.core.errors import StemwrightError
from stemwright.models.graphs.roles import model_inputs, stems_from_outputs
from stemwright.models.manifest import GRAPH_FILE
from stemwright.models.registry.store import InstalledModel, InstalledTagger, open_any
from stemwright.models.sessions.runtimes.contract import PrecisionChoice, Session

_TAGGED_S = 10.0
_MOST_CALLS = 20
_LARGEST_BATCH = 8


def main() -> None:
    """Measure what the command line orders."""
    order = Order.model_validate_json(sys.argv[1])
    try:
        rows = list(_rows(order))
    except StemwrightError as error:
        rows = [order.failed(error.message)]
    print(TypeAdapter(list[Row]).dump_json(rows).decode(), flush=True)


def _rows(order: Order) -> Iterator[Row]:
    with _shared(order.lock, alone=False):
        model = _model(order)
    if order.installed:
        if isinstance(model, InstalledModel):
            yield from _separations(order, model)
        return
    precisions: tuple[PrecisionChoice, ...] = ("float32",)
    if order.device.startswith("cuda") and isinstance(model, InstalledModel):
        precisions = ("float32", "float16")
    for precision in precisions:
        row = order.row(order.device, model.graph_path).model_copy(update={"precision": precision})
        try:
            yield (
                _tagging(order, model, row)
                if isinstance(model, InstalledTagger)
                else _call(order, model, row, precision)
            )
        except StemwrightError as error:
            yield row.model_copy(update={"failure": f"{precision}: {error.message}"})


def _model(order: Order) -> InstalledModel | InstalledTagger:
    """Open the model, which is built if it was not."""
    order.folder.mkdir(parents=True, exist_ok=True)
    place = order.folder / "model"
    if order.known is not None and not (place / GRAPH_FILE).exists():
        place.mkdir(parents=True)
        order.known.build(place)
    model = open_any(order.network if order.known is None else place)
    if not isinstance(model, InstalledModel | InstalledTagger):
        sys.exit(f"{order.network} is a bag; name its members")
    return model


def _call(order: Order, model: InstalledModel, row: Row, precision: PrecisionChoice) -> Row:
    from stemwright.models.sessions.opening import open_session

    with _shared(order.lock, alone=False), _opening(row):
        session = open_session(model, order.options(order.device, precision))
    plan, audio = model.manifest.plan, model.manifest.audio
    facts = session.facts
    row.window_s = plan.output_samples / audio.sample_rate
    row.runtime, row.calls = facts.runtime, facts.parallel_calls
    row.batch = min(facts.batch_limit, _LARGEST_BATCH) if session.graph.batch == "dynamic" else 1
    window = _window(model)
    with _shared(order.lock, alone=True):
        stems = _stems(session, model, window)
        row.call_s, row.cpu_s = _median(lambda: _stems(session, model, window), order.seconds)
        used_s = row.call_s
        if row.calls > 1 or row.batch > 1:
            used_s = _side_by_side(
                lambda: _stems(session, model, np.repeat(window, row.batch, axis=0)), row.calls, order.seconds
            )
        row.card_mb = _card_memory(order.device)
    row.realtime = row.calls * row.batch * row.window_s / used_s
    row.host_mb = _peak()
    session.close()
    return _compared(order, stems, row)


def _stems(session: Session, model: InstalledModel, windows: FloatArray) -> FloatArray:
    """Stems of windows, shape=(batch, stems, channels, samples); a stream begins anew."""
    query = model.manifest.query
    condition = None
    if query is not None:
        one = np.random.default_rng(1).uniform(0, 1, (1, query.size)).astype(np.float32) ** 4
        condition = np.repeat(one, len(windows), axis=0)
    inputs = model_inputs(session.graph, windows, condition=condition)
    state = {
        tensor.input: np.full(tensor.shape, tensor.initial, tensor.dtype) for tensor in session.graph.state
    }
    outputs = session.run({**inputs.arrays, **state})
    sound = {port.name: outputs[port.name] for port in session.graph.outputs}
    return stems_from_outputs(session.graph, sound, inputs.spectrum, windows.shape[-1])


def _window(model: InstalledModel) -> FloatArray:
    """Music-like sound, shape=(1, channels, samples): notes that decay, over a little noise."""
    audio, samples = model.manifest.audio, model.manifest.plan.input_samples
    channels = audio.channels if audio.mode == "native" else 1
    return _notes(channels, samples, audio.sample_rate)[None]


def _notes(channels: int, samples: int, sample_rate: int) -> FloatArray:
    generator = np.random.default_rng(0)
    times = np.arange(samples) / sample_rate
    sound = 0.02 * generator.standard_normal((channels, samples))
    for beat in np.arange(0, times[-1], 0.25):
        first = round(beat * sample_rate)
        since = times[first : first + sample_rate] - beat
        pitch = 55 * 2 ** (generator.integers(0, 36) / 12)
        note = np.exp(-5 * since) * sum(np.sin(2 * np.pi * pitch * n * since) / n for n in (1, 2, 3))
        sound[:, first : first + len(since)] += generator.uniform(0.2, 1, (channels, 1)) * note
    return np.asarray(0.1 * sound / sound.std(), np.float32)


def _tagging(order: Order, tagger: InstalledTagger, row: Row) -> Row:
    from stemwright.models.taggers.session import TaggerSession

    with _shared(order.lock, alone=False), _opening(row):
        session = TaggerSession(tagger, order.options(order.device, "float32"))
    rate = tagger.manifest.audio.sample_rate
    row.window_s = _TAGGED_S
    sound = _notes(1, round(_TAGGED_S * rate), rate)
    with _shared(order.lock, alone=True):
        probabilities = session.segment(sound, rate).probabilities
        row.call_s, row.cpu_s = _median(lambda: session.segment(sound, rate), order.seconds)
        row.card_mb = _card_memory(order.device)
    row.realtime = row.window_s / row.call_s
    row.host_mb = _peak()
    session.close()
    return _compared(order, probabilities, row)


def _separations(order: Order, model: InstalledModel) -> Iterator[Row]:
    """Separate the recording on each device; errors are those against the first row."""
    from stemwright.core.audio.source import ArraySource
    from stemwright.models.separation.separator import Separator

    if order.song is None:
        sys.exit("--installed needs --song")
    samples, rate = soundfile.read(order.song, dtype="float32", always_2d=True)
    if order.song_seconds is not None:
        samples = samples[: round(order.song_seconds * rate)]
    mixture = np.ascontiguousarray(samples.T)
    first: FloatArray | None = None
    for device in order.devices:
        precisions: tuple[PrecisionChoice, ...] = ("float32",)
        precisions += ("float16",) if device.startswith("cuda") else ()
        for precision in precisions:
            row = order.row(device, model.graph_path).model_copy(update={"precision": precision})
            begun = time.monotonic()
            with Separator.open(model.folder, options=order.options(device, precision)) as separator:
                parts: list[FloatArray] = []
                for repeat in range(2):  # the first opens sessions and fills caches
                    parts, started = [], time.monotonic()
                    with separator.separate(ArraySource(mixture, rate)) as separation:
                        parts.extend(np.stack(list(block.stems.values())) for block in separation)
                    row.separate_s = time.monotonic() - started
                    if repeat == 0:
                        row.open_s = time.monotonic() - begun - row.separate_s
                    if row.separate_s > order.seconds * 10:
                        break
                row.card_mb = _card_memory(device)
            row.song_s, row.host_mb = mixture.shape[1] / rate, _peak()
            stems = np.concatenate(parts, axis=-1)
            if order.stems is not None:
                order.stems.mkdir(parents=True, exist_ok=True)
                np.save(order.stems / f"{device.replace(':', '-')}-{precision}.npy", stems)
            if first is not None:
                row.error, row.error_db = _errors(stems, first)
            first = stems if first is None else first
            yield row


def _compared(order: Order, found: FloatArray, row: Row) -> Row:
    """Add the errors against the CPU's result, which the CPU's process leaves behind."""
    place = order.folder / "cpu.npy"
    if row.device == "cpu":
        np.save(place, found)
        return row
    row.error, row.error_db = _errors(found, np.load(place))
    return row


def _errors(found: FloatArray, expected: FloatArray) -> tuple[float, float]:
    difference = found.astype(np.float64) - expected
    power = float(np.mean(np.square(expected, dtype=np.float64)))
    error = float(np.mean(np.square(difference)))
    largest = float(np.abs(difference).max() / max(float(expected.std(dtype=np.float64)), 1e-30))
    return largest, float(10 * np.log10(max(error, 1e-30) / max(power, 1e-30)))


def _median(call: Callable[[], object], seconds: float) -> tuple[float, float]:
    """Median wall and processor time of a call."""
    walls: list[float] = []
    processors: list[float] = []
    while len(walls) < _MOST_CALLS and (not walls or sum(walls) < seconds):
        wall, processor = time.perf_counter(), time.process_time()
        call()
        walls.append(time.perf_counter() - wall)
        processors.append(time.process_time() - processor)
    return median(walls), median(processors)


def _side_by_side(call: Callable[[], object], calls: int, seconds: float) -> float:
    """Median time of several calls at once, after a first round that fills buffers."""
    with ThreadPoolExecutor(calls) as pool:

        def together() -> None:
            for result in [pool.submit(call) for _ in range(calls)]:
                result.result()

        together()
        return _median(together, seconds)[0]


@contextmanager
def _shared(path: Path, *, alone: bool) -> Iterator[None]:
    """Prepare beside other processes, or measure alone."""
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        yield


def _card_memory(device: str) -> float | None:
    """MiB that this process holds on all cards; None if the driver does not tell."""
    if not device.startswith(("cuda", "tensorrt")):
        return None
    query = ["nvidia-smi", "--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits"]
    told = subprocess.run(query, capture_output=True, text=True, check=True).stdout
    lines = [line.split(", ") for line in told.strip().splitlines()]
    held = [int(used) for pid, used in lines if int(pid) == os.getpid() and used.isdigit()]
    return float(sum(held)) if held else None


@contextmanager
def _opening(row: Row) -> Iterator[None]:
    """Note time and largest memory of opening, and begin to count the memory of calls."""
    _forget_peak()
    begun = time.monotonic()
    yield
    row.open_s, row.open_mb = time.monotonic() - begun, _peak()
    _forget_peak()


def _forget_peak() -> None:
    """Begin to count the largest memory anew; a kernel that cannot goes on with that of before."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _peak() -> float:
    """Largest resident memory since it was last forgotten, in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:"))


if __name__ == "__main__":
    main()
