"""Separation of a recording that is decoded in another process."""

from pathlib import Path

from stemwright.core.audio.encode import OutputFormat
from stemwright.models.registry.store import ModelStore
from stemwright.models.separation.separator import SeparationOptions, Separator
from stemwright.service.isolation.limits import DecodeLimits
from stemwright.service.isolation.source import isolating_opener
from stemwright.service.naming import NameTemplate
from stemwright.service.places import place_track
from stemwright.service.tracks import Engine, TrackOptions, separate_to_files
from tests.service.recordings import recording
from tests.support.tiny_models import install_tiny_model


def test_stems_of_an_isolated_recording_are_the_same(tmp_path: Path) -> None:
    install_tiny_model(tmp_path / "models")
    path = recording(tmp_path / "song.wav", 30_000)
    options = TrackOptions(separation=SeparationOptions(), fmt=OutputFormat(container="flac", bit_depth="16"))
    written = []
    with Separator.open("tiny", store=ModelStore(tmp_path / "models")) as separator:
        engine = Engine(separator=separator, models=())
        for out, opener in (("here", None), ("there", isolating_opener(DecodeLimits(), name="my song.wav"))):
            place = place_track(
                tmp_path / out,
                "song",
                separator.output_stems(),
                layout="file_per_stem",
                extension="flac",
                template=NameTemplate(),
                model="tiny",
            )
            (tmp_path / out).mkdir()
            result = separate_to_files(engine, path, place, options, opener=opener)
            written.append([(tmp_path / out / file.path).read_bytes() for file in place.files])
    assert written[0] == written[1]
    assert result.input.name == "my song.wav"
