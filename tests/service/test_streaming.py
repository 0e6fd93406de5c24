from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from stemwright.core.audio.pcm import PcmFormat
from stemwright.core.errors import OptionError
from stemwright.models.conv_tasnet.configs import PAPER_CAUSAL
from stemwright.models.separation.streaming import StreamSession
from stemwright.models.sessions.opening import SessionOptions
from stemwright.service.streaming import PcmStream
from tests.support.conv_tasnet import install_conv_tasnet, small

S16 = PcmFormat(encoding="s16le", sample_rate=8000, channels=1)


@pytest.fixture
def session(tmp_path: Path) -> Iterator[StreamSession]:
    folder = install_conv_tasnet(tmp_path, small(PAPER_CAUSAL))
    with StreamSession.open(folder, options=SessionOptions(cache_dir=tmp_path / "cache")) as opened:
        yield opened


def sound(frames: int) -> bytes:
    return S16.encode((np.random.default_rng(0).standard_normal((1, frames)) * 0.1).astype(np.float32))


def test_bytes_in_any_pieces_give_stems_as_channels(session: StreamSession) -> None:
    data = sound(1000)
    stream = PcmStream(session=session, source=S16, encoding="f32le", piece_s=0.005)
    assert stream.target == PcmFormat(encoding="f32le", sample_rate=8000, channels=2)
    out = b"".join([*(stream.feed(data[i : i + 333]) for i in range(0, 2000, 333)), stream.end()])
    found = stream.target.decode(out)
    other = StreamSession(session.manifest, session._session)
    expected = np.concatenate([other.push(S16.decode(data)), other.flush()], axis=-1)
    np.testing.assert_allclose(found, expected[:, 0], atol=1e-5 * np.abs(expected).max())
    report = stream.report()
    assert (report.seconds, report.odd_bytes, report.clipped) == (0.125, 0, int((abs(found) > 1).sum()))
    assert report.model_latency_s == 0.002
    assert 0 < report.p50_ms <= report.p99_ms
    assert report.real_time_factor == report.busy_seconds / 0.125
    assert report.as_dict()["latency_s"] == pytest.approx(0.002 + report.p50_ms / 1000)


def test_the_network_is_called_when_a_piece_is_there(session: StreamSession) -> None:
    stream = PcmStream(session=session, source=S16, encoding="s16le", piece_s=0.02)
    assert stream.wanted_bytes == 320
    assert stream.feed(bytes(319)) == b""
    assert stream.wanted_bytes == 1
    assert len(stream.feed(bytes(1))) == (160 - 8) * 2 * 2
    assert len(stream.end()) == 8 * 2 * 2


def test_odd_bytes_at_the_end_are_counted(session: StreamSession) -> None:
    stream = PcmStream(session=session, source=S16, encoding="s16le")
    assert len(stream.feed(bytes(1001)) + stream.end()) == 2000
    assert stream.report().odd_bytes == 1


def test_nothing_gives_nothing(session: StreamSession) -> None:
    stream = PcmStream(session=session, source=S16, encoding="s16le")
    assert stream.feed(b"") == stream.end() == b""
    assert stream.report().real_time_factor == 0


def test_stems_are_picked_in_order(session: StreamSession) -> None:
    data = sound(400)
    both = PcmStream(session=session, source=S16, encoding="f32le")
    stems = both.target.decode(both.feed(data) + both.end())
    again = StreamSession(session.manifest, session._session)
    one = PcmStream(session=again, source=S16, encoding="f32le", stems=("speaker2",))
    np.testing.assert_array_equal(one.target.decode(one.feed(data) + one.end()), stems[1:])


def test_what_cannot_be_is_refused(session: StreamSession) -> None:
    with pytest.raises(OptionError, match="has no stem drums") as refused:
        PcmStream(session=session, source=S16, encoding="s16le", stems=("drums",))
    assert refused.value.remedy == "it has speaker1, speaker2"
    for piece_s in (0.0, -1.0, 61.0, float("nan")):
        with pytest.raises(OptionError, match="make no sense"):
            PcmStream(session=session, source=S16, encoding="s16le", piece_s=piece_s)
    stereo = PcmFormat(encoding="s16le", sample_rate=8000, channels=2)
    with pytest.raises(ValueError, match="another rate"):
        PcmStream(session=session, source=stereo, encoding="s16le")
