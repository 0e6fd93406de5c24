import json
import os
import subprocess
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile

from stemwright.core.audio.source import open_source
from tests.service.conftest import LOUD_GAINS, Workshop
from tests.service.recordings import noise, read, recording, write
from tests.support.tiny_models import GAINS, STEMS, install_tiny_model

LSB = 2.0**-15


def test_writes_stems_and_result(workshop: Workshop) -> None:
    song = recording(Path("song.wav"), 9001)
    ended = workshop.separate(song, "-o", "out")
    assert (ended.code, ended.err) == (0, "")
    names = [*(f"{stem}.wav" for stem in STEMS), "result.json"]
    assert ended.lines == [f"out/song/{name}" for name in names]
    assert workshop.files("out") == {f"song/{name}" for name in names}
    mixture = read(song)
    for stem, gain in zip(STEMS, GAINS, strict=True):
        facts = soundfile.info(f"out/song/{stem}.wav")
        assert (facts.samplerate, facts.channels, facts.frames, facts.subtype) == (44100, 2, 9001, "PCM_16")
        np.testing.assert_allclose(read(Path(f"out/song/{stem}.wav")), mixture * gain, atol=LSB)


def test_result_says_what_was_done(workshop: Workshop) -> None:
    recording(Path("song.flac"), 8000, 1, sample_rate=16000)
    workshop.separate("song.flac", "-o", "out", "--precision", "float32", "--seed", "3", "--shifts", "2")
    result = json.loads(Path("out/song/result.json").read_text())
    model = json.loads((workshop.models / "tiny/manifest.json").read_text())
    assert result["models"] == [
        {
            "name": "tiny",
            "version": "1",
            "sha256": model["files"][0]["sha256"],
            "licence": {"name": "CC0-1.0", "text": "Free to use", "url": ""},
            "weight": 1.0,
        }
    ]
    (network,) = result["networks"]
    assert (network["name"], network["provider"], network["precision"]) == ("tiny", "cpu", "float32")
    assert result["seconds"] == 0.5
    assert result["real_time_factor"] == pytest.approx(result["wall_seconds"] / 0.5)
    assert (result["gain"], result["clip_mode"], result["clamped_samples"]) == (1.0, "shared", 0)
    assert result["input"]["codec"] == "flac"
    assert (result["input"]["channels"], result["input"]["frames"]) == (1, 8000)
    assert [file["path"] for file in result["files"]] == [f"{stem}.wav" for stem in STEMS]
    assert (result["options"]["seed"], result["options"]["shifts"]) == (3, 2)


@pytest.mark.parametrize(("mode", "gain"), [(None, 0.1), ("subtract", 0.1), ("network", 0.5)])
def test_a_remainder_is_what_the_others_leave_or_what_the_network_gives(
    workshop: Workshop, mode: str | None, gain: float
) -> None:
    folder = install_tiny_model(workshop.models, "rest", gains=(0.4, 0.3, 0.2, 0.5))
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, "remainder": "vocals"}))
    song = recording(Path("song.wav"), 9001)
    asked = [] if mode is None else ["--remainder", mode]
    ended = workshop.separate(song, "-o", "out", "--bit-depth", "32f", *asked, model="rest")
    assert ended.code == 0, ended.err
    result = json.loads(Path("out/song/result.json").read_text())
    assert result["remainder"] == (mode or "subtract")
    assert result["options"]["remainder"] == mode
    np.testing.assert_allclose(read(Path("out/song/vocals.wav")), read(song) * gain, atol=1e-6)


def test_a_model_without_a_remainder_says_so(workshop: Workshop) -> None:
    recording(Path("song.wav"), 9001)
    ended = workshop.separate("song.wav", "-o", "out", "--remainder", "network")
    assert ended.code == 2
    assert "no stem of the model is a remainder" in ended.err
    assert not Path("out/song").exists()


@pytest.mark.parametrize("suffix", ["wav", "flac", "mp3", "ogg", "m4a"])
def test_every_format_keeps_the_length(workshop: Workshop, suffix: str) -> None:
    recording(Path("song.wav"), 30_001)
    ended = workshop.separate("song.wav", "-o", "out", "--format", suffix, "--stems", "vocals,bass")
    assert ended.code == 0, ended.err
    assert workshop.files("out") == {f"song/vocals.{suffix}", f"song/bass.{suffix}", "song/result.json"}
    again = workshop.separate(f"out/song/vocals.{suffix}", "-o", "again", "--stems", "vocals", "--json")
    assert again.rows[0]["result"]["input"]["frames"] == 30_001


def test_shared_gain_keeps_the_sum_true(workshop: Workshop) -> None:
    song = recording(Path("song.wav"), 20_000, level=0.9)
    workshop.separate(song, "-o", "out", "--bit-depth", "24", model="loud")
    result = json.loads(Path("out/song/result.json").read_text())
    stems = {stem: read(Path(f"out/song/{stem}.wav")) for stem in STEMS}
    peak = max(float(np.abs(stem).max()) for stem in stems.values())
    assert peak == pytest.approx(1.0, abs=2 * LSB)
    assert peak < 1.0
    assert result["gain"] == pytest.approx(1 / 2.7, rel=1e-3)
    assert result["peak"] == pytest.approx(2.7, rel=1e-3)
    total = sum(LOUD_GAINS)
    np.testing.assert_allclose(sum(stems.values()), read(song) * total * result["gain"], atol=2e-6)


def test_no_gain_where_nothing_clips(workshop: Workshop) -> None:
    recording(Path("song.wav"), 5000, level=1 / 3)
    workshop.separate("song.wav", "-o", "out", model="loud")
    assert json.loads(Path("out/song/result.json").read_text())["gain"] == 1.0


def test_clamp_counts_what_it_clamps(workshop: Workshop) -> None:
    song = recording(Path("song.wav"), 5000, level=0.9)
    workshop.separate(song, "-o", "out", "--clip-mode", "clamp", model="loud")
    result = json.loads(Path("out/song/result.json").read_text())
    mixture = read(song)
    expected = sum(int(np.count_nonzero(np.abs(np.float32(gain) * mixture) > 1)) for gain in LOUD_GAINS)
    assert result["gain"] == 1.0
    assert result["clamped_samples"] == expected
    np.testing.assert_allclose(read(Path("out/song/drums.wav")), np.clip(3 * mixture, -1, 1), atol=2 * LSB)


@pytest.mark.parametrize("arguments", [["--clip-mode", "float"], ["--bit-depth", "32f"]])
def test_float_needs_no_gain(workshop: Workshop, arguments: list[str]) -> None:
    song = recording(Path("song.wav"), 5000, level=0.9)
    workshop.separate(song, "-o", "out", *arguments, model="loud")
    assert json.loads(Path("out/song/result.json").read_text())["gain"] == 1.0
    assert soundfile.info("out/song/drums.wav").subtype == "FLOAT"
    np.testing.assert_allclose(read(Path("out/song/drums.wav")), 3 * read(song), rtol=1e-6)


def test_two_stems_and_residual(workshop: Workshop) -> None:
    song = recording(Path("song.wav"))
    workshop.separate(song, "-o", "two", "--two-stems", "vocals")
    assert workshop.files("two") == {"song/vocals.wav", "song/no_vocals.wav", "song/result.json"}
    np.testing.assert_allclose(read(Path("two/song/no_vocals.wav")), 0.9 * read(song), atol=LSB)
    workshop.separate(song, "-o", "rest", "--stems", "drums", "--residual", "--clip-mode", "float")
    parts = [read(Path(f"rest/song/{stem}.wav")) for stem in ("drums", "residual")]
    np.testing.assert_allclose(sum(parts), read(song), atol=1e-6)


def test_several_models_are_averaged_with_weights(workshop: Workshop) -> None:
    song = recording(Path("song.wav"), level=0.2)
    ended = workshop.run(
        *("separate", song, "-o", "out", "-m", "tiny", "-m", "loud", "--weights", "3,1", "--device", "cpu"),
        *("--stems", "drums", "--clip-mode", "float", "--json"),
    )
    np.testing.assert_allclose(
        read(Path("out/song/drums.wav")), read(song) * (0.75 * 0.4 + 0.25 * 3), atol=1e-6
    )
    assert [model["weight"] for model in ended.rows[0]["result"]["models"]] == [0.75, 0.25]


def test_excerpt(workshop: Workshop) -> None:
    song = recording(Path("song.wav"), 44100)
    workshop.separate(song, "-o", "out", "--start", "0.25", "--end", "0.5", "--clip-mode", "float")
    part = read(Path("out/song/drums.wav"))
    np.testing.assert_allclose(part, 0.4 * read(song)[:, 11025:22050], atol=1e-6)


def test_standard_input_and_output(workshop: Workshop) -> None:
    song = recording(Path("song.flac"), 7000)
    code, out, err = workshop.piped(
        *("separate", "-", "-o", "-", "-m", "tiny", "--device", "cpu", "--stems", "vocals,drums"),
        *("--clip-mode", "float"),
        stdin=song.read_bytes(),
    )
    assert (code, err) == (0, "")
    Path("both.wav").write_bytes(out)
    both, mixture = read(Path("both.wav")), read(song)
    np.testing.assert_allclose(both, np.concatenate([0.1 * mixture, 0.4 * mixture]), atol=1e-6)
    assert workshop.files() == {"song.flac", "both.wav"}


def test_one_stem_to_standard_output_in_any_format(workshop: Workshop) -> None:
    recording(Path("song.wav"), 7000)
    arguments = ("separate", "song.wav", "-o", "-", "-m", "tiny", "--device", "cpu", "--format", "flac")
    assert workshop.piped(*arguments, "--stems", "bass")[1].startswith(b"fLaC")
    code, out, err = workshop.piped(*arguments)
    assert (code, out) == (2, b"")
    assert "error: several stems" in err


def test_a_failure_sends_nothing_to_standard_output(workshop: Workshop) -> None:
    song = recording(Path("song.flac"), 100_000)
    cut = song.read_bytes()[: song.stat().st_size // 2]
    code, out, err = workshop.piped("separate", "-", "-o", "-", "-m", "tiny", stdin=cut)
    assert (code, out) == (2, b"")
    assert err.startswith("error: ")


def test_a_named_pipe_is_read_once(workshop: Workshop) -> None:
    data = recording(Path("song.wav"), 7000).read_bytes()
    os.mkfifo("pipe.wav")
    writer = threading.Thread(target=lambda: Path("pipe.wav").write_bytes(data))
    writer.start()
    ended = workshop.separate("pipe.wav", "-o", "out", "--stems", "bass")
    writer.join()
    assert ended.lines == ["out/pipe/bass.wav", "out/pipe/result.json"]


def test_standard_input_is_named_so(workshop: Workshop) -> None:
    song = recording(Path("song.wav"))
    _, out, _ = workshop.piped(
        "separate", "-", "-o", "out", "-m", "tiny", "--device", "cpu", stdin=song.read_bytes()
    )
    assert out.decode().splitlines()[0] == "out/stdin/drums.wav"


def test_json_is_a_line_for_each_input(workshop: Workshop) -> None:
    recording(Path("one.wav"), level=0.3)
    Path("two.wav").write_text("no audio")
    ended = workshop.separate("one.wav", "two.wav", "-o", "out", "--json")
    good, bad = ended.rows
    assert ended.code == 3
    assert (good["outcome"], good["input"]) == ("done", "one.wav")
    assert good["paths"][0] == "out/one/drums.wav"
    assert good["result"] == json.loads(Path("out/one/result.json").read_text())
    assert (bad["outcome"], bad["error"]["code"]) == ("failed", "unusable_input")
    assert bad["error"]["remedy"]


def test_stem_mp4_is_one_file_with_the_mixture_first(workshop: Workshop) -> None:
    import av

    song = recording(Path("song.wav"), 30_000, level=0.9)
    ended = workshop.separate(song, "-o", "out", "--format", "stem.mp4", "--bitrate", "320", model="loud")
    assert (ended.code, ended.lines) == (0, ["out/song/song.stem.mp4", "out/song/result.json"])
    assert workshop.files("out") == {"song/song.stem.mp4", "song/result.json"}
    gain = json.loads(Path("out/song/result.json").read_text())["gain"]
    assert gain == pytest.approx(1 / 2.7, rel=1e-3)
    with av.open("out/song/song.stem.mp4") as container:
        assert len(container.streams.audio) == 5
    with open_source("out/song/song.stem.mp4") as mixture:
        samples = np.concatenate(list(mixture.blocks()), axis=1)
    assert samples.shape == (2, 30_000)
    error = samples - read(song) * gain
    assert np.square(error).mean() < 0.1 * np.square(samples).mean()


@pytest.mark.parametrize("arguments", [["--stems", "vocals"], ["--residual"]])
def test_stem_mp4_needs_four_stems(workshop: Workshop, arguments: list[str]) -> None:
    recording(Path("song.wav"))
    ended = workshop.separate("song.wav", "-o", "out", "--format", "stem.mp4", *arguments)
    assert ended.code == 2
    assert ended.shows_error("a stem.mp4 file holds 4 stems")
    assert workshop.files("out") == set()


def test_existing_results_are_refused_then_replaced(workshop: Workshop) -> None:
    recording(Path("song.wav"), seed=1)
    assert workshop.separate("song.wav", "-o", "out").code == 0
    Path("out/song/notes.txt").write_text("mine")
    before = Path("out/song/drums.wav").read_bytes()
    recording(Path("song.wav"), seed=2)
    ended = workshop.separate("song.wav", "-o", "out")
    assert ended.code == 2
    assert ended.shows_error("out/song/drums.wav exists already", "--overwrite")
    assert Path("out/song/drums.wav").read_bytes() == before
    assert workshop.separate("song.wav", "-o", "out", "--overwrite").code == 0
    assert Path("out/song/drums.wav").read_bytes() != before
    assert Path("out/song/notes.txt").read_text() == "mine"
    assert workshop.files("out") == {f"song/{stem}.wav" for stem in STEMS} | {
        "song/result.json",
        "song/notes.txt",
    }


def test_overwrite_removes_stems_that_are_no_more(workshop: Workshop) -> None:
    recording(Path("song.wav"))
    workshop.separate("song.wav", "-o", "out")
    Path("out/song/own.wav").write_text("mine")
    workshop.separate("song.wav", "-o", "out", "--stems", "vocals", "--overwrite")
    assert workshop.files("out/song") == {"vocals.wav", "result.json", "own.wav"}


def test_name_template(workshop: Workshop) -> None:
    for name in ("one", "two"):
        recording(Path(f"{name}.wav"))
    template = "{model}/{track} - {stem}.{ext}"
    ended = workshop.separate(
        "one.wav", "two.wav", "-o", "out", "--name-template", template, "--stems", "bass"
    )
    assert ended.code == 0, ended.err
    assert workshop.files("out") == {
        "tiny/one - bass.wav",
        "tiny/two - bass.wav",
        "one.result.json",
        "two.result.json",
    }
    assert json.loads(Path("out/one.result.json").read_text())["files"][0]["path"] == "tiny/one - bass.wav"


def test_template_that_gives_two_tracks_one_name(workshop: Workshop) -> None:
    for name in ("one", "two"):
        recording(Path(f"{name}.wav"))
    ended = workshop.separate("one.wav", "two.wav", "-o", "out", "--name-template", "{stem}.{ext}")
    assert ended.code == 2
    assert ended.shows_error("'one.wav' and 'two.wav' would both be written", "{track}")
    assert not Path("out").exists()


def test_tags_and_cover_are_carried(workshop: Workshop) -> None:
    import av

    recording(Path("plain.wav"), 30_000)
    with av.open("plain.wav") as source, av.open("song.flac", "w") as target:
        stream = target.add_stream("flac", rate=44100)
        target.metadata.update({"title": "Night", "artist": "Someone", "REPLAYGAIN_TRACK_GAIN": "-6 dB"})
        for frame in source.decode(audio=0):
            target.mux(stream.encode(frame))
        target.mux(stream.encode(None))
    workshop.separate("song.flac", "-o", "out", "--format", "flac", "--stems", "vocals")
    with av.open("out/song/vocals.flac") as stem:
        fields = {key.lower(): value for key, value in stem.metadata.items()}
    assert fields["artist"] == "Someone"
    assert fields["title"] == "Night (vocals)"
    assert fields["separation_model"] == "tiny"
    assert "replaygain_track_gain" not in fields


def test_surround_keeps_its_channels(workshop: Workshop) -> None:
    song = write(Path("film.wav"), noise(5000, 6))
    ended = workshop.separate(song, "-o", "out", "--clip-mode", "float")
    assert ended.code == 0, ended.err
    np.testing.assert_allclose(read(Path("out/film/other.wav")), 0.2 * read(song), atol=1e-6)


@pytest.mark.parametrize(("frames", "rate"), [(1, 44100), (3000, 8000), (9000, 192000), (4000, 44056)])
def test_awkward_lengths_and_rates(workshop: Workshop, frames: int, rate: int) -> None:
    recording(Path("song.wav"), frames, sample_rate=rate)
    ended = workshop.separate("song.wav", "-o", "out")
    assert ended.code == 0, ended.err
    facts = soundfile.info("out/song/vocals.wav")
    assert (facts.frames, facts.samplerate) == (frames, rate)


def test_wrong_extension_is_read_all_the_same(workshop: Workshop) -> None:
    recording(Path("song.flac")).rename("song.mp3")
    assert workshop.separate("song.mp3", "-o", "out").code == 0


def test_default_model_missing_tells_the_command(workshop: Workshop) -> None:
    recording(Path("song.wav"))
    ended = workshop.run("separate", "song.wav", "-o", "out")
    assert ended.code == 2
    assert ended.shows_error("htdemucs", "stemwright models pull htdemucs")
    assert not Path("out").exists()


def test_mono_model_and_low_memory(workshop: Workshop) -> None:
    install_tiny_model(workshop.models, "mono", channels=1, sample_rate=16000)
    recording(Path("song.wav"))
    ended = workshop.separate("song.wav", "-o", "out", "--low-memory", "--threads", "1", model="mono")
    assert ended.code == 0, ended.err
    assert soundfile.info("out/song/bass.wav").channels == 2


@pytest.mark.slow
def test_closed_pipe_is_no_traceback(workshop: Workshop) -> None:
    recording(Path("song.wav"), 300_000)
    command = workshop.fresh_command("separate", "song.wav", "-o", "-", "-m", "tiny", "--device", "cpu")
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        errors = process.stderr.read()
    assert b"Traceback" not in errors


def test_the_default_folder_is_separated(workshop: Workshop) -> None:
    recording(Path("song.wav"))
    assert workshop.separate("song.wav").lines[0] == "separated/song/drums.wav"
