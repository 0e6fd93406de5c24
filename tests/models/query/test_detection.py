"""Classes over time on a tagger with known answers."""

from collections.abc import Iterator

import numpy as np
import pytest

from stemwright.core.arrays import FloatArray
from stemwright.core.audio.source import ArraySource, AudioInfo
from stemwright.core.errors import OptionError
from stemwright.models.query.detection import Detection, detect, pieces
from stemwright.models.registry.store import open_tagger
from stemwright.models.sessions.runtimes.contract import SessionOptions
from stemwright.models.taggers.session import TaggerSession
from tests.support.tiny_taggers import CAT, CLASSES, DOG, RATE, SPEECH, install_tiny_tagger, tone


@pytest.fixture(scope="module")
def ears(tmp_path_factory: pytest.TempPathFactory) -> TaggerSession:
    folder = install_tiny_tagger(tmp_path_factory.mktemp("models"))
    return TaggerSession(open_tagger(folder), SessionOptions(device="cpu", threads=1))


def scene() -> FloatArray:
    """4 s of dog, 2 s of nothing, 3 s of cat and dog."""
    silence = np.zeros((1, 2 * RATE), np.float32)
    return np.concatenate([tone(DOG, 4.0), silence, tone(CAT, 3.0) + tone(DOG, 3.0)], axis=1)


def test_classes_over_time(ears: TaggerSession) -> None:
    found = detect(ArraySource(scene(), RATE), ears)
    assert found.values.shape == (5, 3) and found.duration_s == 9.0
    dog, cat = sorted(found.strongest(2), key=lambda one: one.sound.name, reverse=True)
    assert (dog.sound.mid, cat.sound.mid) == (DOG, CAT)
    assert dog.active == ((0.0, 4.0), (6.0, 9.0))
    assert cat.active == ((6.0, 9.0),)
    assert dog.peak > 0.9 and dog.mean == pytest.approx(float(dog.probabilities.mean()))


@pytest.mark.parametrize("rate", [8000, 22050, 48000])
@pytest.mark.parametrize("block", [997, 65_536])
def test_windows_are_heard_alone_whatever_the_blocks(ears: TaggerSession, rate: int, block: int) -> None:
    sound = np.concatenate([tone(mid, 2.0, rate) for mid in (DOG, CAT, SPEECH)], axis=1)

    class InBlocks(ArraySource):
        def blocks(self, block_frames: int = 0) -> Iterator[FloatArray]:
            return super().blocks(block)

    found = detect(InBlocks(np.concatenate([sound, sound]), rate), ears)
    assert [CLASSES[int(row.argmax())] for row in found.values] == [DOG, CAT, SPEECH]


def test_levels_take_the_most_probable_of_a_branch(ears: TaggerSession) -> None:
    found = detect(ArraySource(scene(), RATE), ears)
    (animal,) = found.at_level(1)
    assert animal.sound.name == "Animal" and animal.active == ((0.0, 4.0), (6.0, 9.0))
    (pets,) = found.at_level(2)
    assert pets.sound.name == "Domestic animals, pets"
    assert {one.sound.name for one in found.at_level(3)} == {"Dog", "Cat"}
    assert found.at_level(6) == ()
    with pytest.raises(OptionError, match="no level 7"):
        found.at_level(7)


def test_as_data(ears: TaggerSession) -> None:
    found = detect(ArraySource(tone(CAT, 0.5), RATE), ears)
    data = found.as_dict(found.strongest(1))
    assert (data["tagger"], data["duration_s"], data["window_s"]) == ("ears", 0.5, 2.0)
    (cat,) = data["classes"]
    assert (cat["name"], cat["active"]) == ("Cat", [[0.0, 0.5]])


def test_memory_does_not_hold_the_recording(ears: TaggerSession) -> None:
    class Long:
        info = AudioInfo(
            sample_rate=RATE, channels=1, layout=("FC",), frames=None, codec="array", container="array"
        )
        most = 0

        def blocks(self, block_frames: int = 0) -> Iterator[FloatArray]:
            for _ in range(600):
                yield np.zeros((1, RATE), np.float32)

    seen: list[float] = []
    found = detect(Long(), ears, progress=seen.append)
    assert found.duration_s == 600.0 and found.values.nbytes == 300 * 3 * 2
    assert seen[-1] == 600.0 and len(seen) == 38


def test_pieces() -> None:
    blocks = [np.arange(n, dtype=np.float32)[None] for n in (3, 1, 7, 2)]
    got = list(pieces(iter(blocks), 4))
    assert [piece.shape[1] for piece in got] == [4, 4, 4, 1]
    np.testing.assert_array_equal(np.concatenate(got, axis=1), np.concatenate(blocks, axis=1))
    assert list(pieces(iter([]), 4)) == []


def test_intervals_join_and_end_with_the_recording() -> None:
    values = np.asarray([[0.3], [0.2], [0.1], [0.9]], np.float16)
    found = Detection(tagger="t", classes=(DOG,), window_s=2.0, duration_s=7.5, values=values)
    assert found.strongest(1, threshold=0.1999)[0].active == ((0.0, 4.0), (6.0, 7.5))
