"""Oracles against the definitions written out over scipy's transforms, and the paper's ordering on speech."""

from itertools import combinations

import numpy as np
import pytest
import scipy.signal

from stemwright.core.audio.source import ArraySource
from stemwright.core.errors import OptionError
from stemwright.eval.datasets.contract import OpenTrack
from stemwright.eval.datasets.sources import Named
from stemwright.eval.oracles import Oracle, OracleKind, oracle_blocks, parse_oracle
from stemwright.eval.signal_metrics import si_sdr
from tests.support.data_sets import Samples, noise
from tests.support.paths import shared

MASKS: tuple[OracleKind, ...] = ("ibm", "irm", "wiener")


def estimates(oracle: Oracle, stems: Samples, rate: int = 8000, nature: str = "speech") -> Samples:
    """Run an oracle, shapes=(stems, channels, samples)."""
    mixture = ArraySource(stems.sum(axis=0).astype(np.float32), rate)
    references = {
        str(index): Named(str(index), ArraySource(stem.astype(np.float32), rate))
        for index, stem in enumerate(stems)
    }
    track = OpenTrack(mixture=mixture, references=references)
    blocks = list(oracle_blocks(oracle, track, nature))  # type: ignore[arg-type]
    return np.stack(
        [np.concatenate([block[name] for block in blocks], axis=1) for name in references]
    ).astype(float)


def written_out(kind: str, stems: Samples, n_fft: int, hop: int) -> Samples:
    """Mask by the definitions."""
    options = {"window": "hann", "nperseg": n_fft, "noverlap": n_fft - hop}
    stems = stems.astype(np.float32).astype(float)
    mixture = stems.sum(axis=0).astype(np.float32).astype(float)
    true = np.abs(scipy.signal.stft(stems, boundary="zeros", padded=True, **options)[2])
    mixed = scipy.signal.stft(mixture, boundary="zeros", padded=True, **options)[2]
    found = []
    for index in range(len(stems)):
        if kind == "ibm":
            mask = np.ones_like(true[0])
            for other in range(len(stems)):
                if other != index:
                    mask *= true[index] > true[other]
        elif kind == "irm":
            mask = true[index] / true.sum(axis=0)
        else:
            mask = true[index] ** 2 / (true**2).sum(axis=0)
        found.append(scipy.signal.istft(mask * mixed, **options)[1][..., : stems.shape[-1]])
    return np.stack(found)


@pytest.mark.parametrize("kind", MASKS)
@pytest.mark.parametrize(
    ("samples", "n_fft", "hop"), [(300, 256, 64), (70_000, 256, 64), (140_000, 4096, 1024), (66_001, 100, 33)]
)
def test_masks_are_those_of_the_definitions(kind: OracleKind, samples: int, n_fft: int, hop: int) -> None:
    stems = np.stack([noise(index, samples) for index in range(3)])
    found = estimates(Oracle(kind=kind, n_fft=n_fft, hop=hop), stems)
    np.testing.assert_allclose(found, written_out(kind, stems, n_fft, hop), atol=1e-7)


@pytest.mark.parametrize("kind", MASKS)
@pytest.mark.parametrize("samples", [1, 5, 100])
def test_signals_shorter_than_a_frame(kind: OracleKind, samples: int) -> None:
    stems = np.stack([noise(index, samples) for index in range(2)])
    found = estimates(Oracle(kind=kind), stems)
    assert found.shape == stems.shape
    np.testing.assert_allclose(found.sum(axis=0), stems.sum(axis=0), atol=1e-6)  # the masks add up to 1


def test_silence_stays_silence() -> None:
    stems = np.zeros((2, 1, 5000))
    for kind in MASKS:
        assert not estimates(Oracle(kind=kind), stems).any()


def test_the_mixture_is_every_estimate() -> None:
    stems = np.stack([noise(index) for index in range(2)])
    found = estimates(Oracle(kind="mixture"), stems)
    np.testing.assert_allclose(found, np.broadcast_to(stems.sum(axis=0), stems.shape), atol=1e-7)


def test_the_papers_order_on_mixtures_of_speech() -> None:
    """Conv-TasNet's table on two speakers: WFM above IBM above IRM (13.4, 13.0, 12.2 dB of SI-SNRi)."""
    import soundfile

    first = sorted(path for path in shared("data", "speech").glob("*/*") if path.suffix == ".flac")
    speakers: dict[str, Samples] = {}
    for path in first:
        samples, rate = soundfile.read(path)
        speakers.setdefault(
            path.parent.name, scipy.signal.resample_poly(samples, 1, rate // 8000)[None, : 8000 * 4]
        )
    pairs = [pair for pair in combinations(speakers.values(), 2)][:12]
    gains = dict.fromkeys(MASKS, 0.0)
    for pair in pairs:
        length = min(one.shape[1] for one in pair)
        stems = np.stack([one[:, :length] / one[:, :length].std() * 0.05 for one in pair])
        mixture = stems.sum(axis=0)
        for kind in MASKS:
            found = estimates(Oracle(kind=kind), stems)
            gain = [
                si_sdr(s, e, means="removed") - si_sdr(s, mixture, means="removed")
                for s, e in zip(stems, found, strict=True)
            ]
            gains[kind] += float(np.mean(gain)) / len(pairs)
    assert gains["wiener"] > gains["ibm"] > gains["irm"] > 9


@pytest.mark.parametrize(
    ("nature", "rate", "expected"),
    [
        ("speech", 8000, (256, 64)),
        ("speech", 16000, (512, 128)),
        ("events", 16000, (512, 128)),
        ("music", 44100, (4096, 1024)),
        ("music", 16000, (1024, 256)),
    ],
)
def test_transforms_where_none_is_chosen(nature: str, rate: int, expected: tuple[int, int]) -> None:
    assert Oracle(kind="irm").resolved(nature, rate) == expected  # type: ignore[arg-type]


def test_oracles_by_name() -> None:
    assert parse_oracle("oracle:irm?n_fft=2048&hop=512") == Oracle(kind="irm", n_fft=2048, hop=512)
    assert parse_oracle("oracle:irm?n_fft=2048&hop=512").label == "oracle:irm?n_fft=2048&hop=512"
    assert parse_oracle("oracle:mixture").label == "oracle:mixture"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("oracle:irn", "no oracle 'irn'"),
        ("oracle:irm?n_fft=x", "no whole number"),
        ("oracle:irm?n_fft=7", "n_fft 7 is not possible"),
        ("oracle:irm?n_fft=64&hop=64", "hop 64 is not possible"),
        ("oracle:irm?window=3", "has no option window"),
        ("oracle:mixture?n_fft=64", "has no option n_fft"),
    ],
)
def test_oracles_that_there_are_not(text: str, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        parse_oracle(text)
