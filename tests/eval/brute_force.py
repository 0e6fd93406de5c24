"""BSS Eval 4 by its definitions: explicit matrices of delayed channels, explicit filtering."""

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]


def delayed(channels: Doubles, taps: int) -> Doubles:
    """Matrix of all channels delayed by 0..taps-1, shape=(n + taps - 1, channels * taps)."""
    count, samples = channels.shape
    matrix = np.zeros((samples + taps - 1, count * taps))
    for channel in range(count):
        for delay in range(taps):
            matrix[delay : delay + samples, channel * taps + delay] = channels[channel]
    return matrix


def scores(references: Doubles, estimates: Doubles, window: int, hop: int, taps: int) -> Doubles:
    """SDR, ISR, SIR, SAR in dB, shape=(4, sources, frames); nothing is added to any diagonal."""
    sources, channels, samples = references.shape
    flat = references.reshape(sources * channels, samples)
    whole = delayed(flat, taps)
    tail = np.zeros((channels, taps - 1))
    frames = range(0, samples - window + 1, hop)
    result = np.full((4, sources, len(frames)), np.nan)
    for source in range(sources):
        target = np.concatenate([estimates[source], tail], axis=1).T
        on_all = np.linalg.lstsq(whole, target, rcond=None)[0]
        on_own = np.linalg.lstsq(delayed(references[source], taps), target, rcond=None)[0]
        for index, start in enumerate(frames):
            span = np.s_[..., start : start + window]
            if any(not part.sum(axis=0).any() for part in (*references[span], *estimates[span])):
                continue
            everything = delayed(flat[span], taps) @ on_all
            mine = delayed(references[source][span], taps) @ on_own
            true = np.concatenate([references[source][span], tail], axis=1).T
            found = np.concatenate([estimates[source][span], tail], axis=1).T
            pairs = (
                (true, found - true),
                (true, mine - true),
                (mine, everything - mine),
                (everything, found - everything),
            )
            with np.errstate(divide="ignore"):  # one source alone has no interference
                result[:, source, index] = [10 * np.log10((s**2).sum() / (n**2).sum()) for s, n in pairs]
    return result
