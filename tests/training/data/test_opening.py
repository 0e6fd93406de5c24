from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stemwright.core.errors import InputError, OptionError
from stemwright.training.augmentation.batch_rules import BatchRules
from stemwright.training.data.examples import Source
from stemwright.training.data.opening import augmentation_of, open_source
from tests.support import data_folders
from tests.support.data_folders import tone, write


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("opening")
    data_folders.songs(folder / "songs", 6)
    data_folders.speech(folder / "speech", 12)
    for number in range(2):
        write(folder / "duets" / f"song{number}_1.wav", tone(1.0, 8000, 300, channels=2), 8000)
    return folder


def _open(data: Path, settings: dict[str, Any], **more: Any) -> Source:
    for table in (settings, *settings.get("sources", ())):
        if "path" in table:
            table["path"] = str(data / table["path"])
    shape = {"sample_rate": 8000, "channels": 1, "samples": 400} | more
    return open_source(settings, cache=data / "cache", **shape)


def test_speech_and_what_is_held_out(data: Path) -> None:
    table = {"kind": "speech", "path": "speech", "hold_out": 0.2, "level_db": [-30, -20]}
    sources = [_open(data, table | {"part": part}) for part in ("kept", "held_out")]
    groups = [set(source.pack.groups) for source in sources]  # type: ignore[attr-defined]
    assert not groups[0] & groups[1] and len(groups[0] | groups[1]) == 12
    assert sources[0].example(0, 0, 0).targets.shape == (2, 1, 400)
    assert sources[0].rules.level_db == (-30, -20)  # type: ignore[attr-defined]


def test_noises_are_any_clips(data: Path) -> None:
    for number in range(2):
        write(data / "noise" / "street" / f"{number}.wav", tone(0.5, 8000, 700 + number), 8000)
    table = {"kind": "speech", "path": "speech", "noise": str(data / "noise"), "noise_share": 1.0}
    example = _open(data, table).example(0, 0, 0)
    assert np.abs(example.mixture - example.targets.sum(axis=0)).max() > 1e-3


def test_songs_come_in_the_networks_order(data: Path) -> None:
    stems = ("drums", "bass", "other", "vocals")
    source = _open(data, {"kind": "songs", "path": "songs"}, channels=2, stems=stems)
    assert source.names == stems
    named = {"kind": "songs", "path": "songs", "targets": {"vocals": ["vocals"], "rest": ["drums", "bass"]}}
    assert _open(data, named, stems=stems).names == ("vocals", "rest")
    with pytest.raises(InputError, match="has no stem guitar"):
        _open(data, {"kind": "songs", "path": "songs"}, stems=("guitar",))


def test_several_sources_are_one(data: Path) -> None:
    targets = {"accompaniment": ["drums", "bass", "other"], "vocals": ["vocals"]}
    first = {"kind": "songs", "path": "songs", "targets": targets, "weight": 3.0}
    second = {"kind": "songs", "path": "duets", "layout": "two-channel"}
    source = _open(data, {"sources": [first, second]})
    drawn = [source.example(0, step, 0).targets for step in range(40)]
    duets = sum(bool(np.abs(one[0]).max() < 0.28) and bool(np.abs(one[1]).max() < 0.28) for one in drawn)
    assert source.names == ("accompaniment", "vocals") and 3 < duets < 20


def test_shifted_songs_are_read_longer(data: Path) -> None:
    table = {"kind": "songs", "path": "songs", "augment": {"shift_s": 0.01, "gain": [0.5, 1.0]}}
    assert _open(data, table).example(0, 0, 0).mixture.shape == (1, 480)
    assert augmentation_of(table, 8000) == BatchRules(shift=80, gain=(0.5, 1.0))
    assert augmentation_of({"kind": "songs"}, 8000) is None


def test_repitched_songs_keep_their_length(data: Path) -> None:
    source = _open(data, {"kind": "songs", "path": "songs", "repitch": 1.0})
    plain = _open(data, {"kind": "songs", "path": "songs"})
    assert source.example(0, 1, 2).mixture.shape == plain.example(0, 1, 2).mixture.shape == (1, 400)


@pytest.mark.parametrize(
    ("table", "message", "remedy"),
    [
        ({"kind": "speech", "path": "x", "speekers": 2}, "setting speekers", "did you mean speakers"),
        ({"kind": "songs", "path": "x", "remx": 0.5}, "setting remx", "did you mean remix"),
        (
            {"kind": "songs", "path": "songs", "augment": {"flip": True}},
            "setting flip",
            "did you mean flip_sign",
        ),
        (
            {"sources": [{"kind": "songs", "path": "x", "wieght": 1}]},
            "sources.0.wieght",
            "did you mean weight",
        ),
        ({"sources": [{"kind": "songs", "path": "x"}], "path": "y"}, "setting path", "sources"),
        ({"kind": "song", "path": "x"}, "no kind that there is", "songs"),
        ({"path": "x"}, "no kind that there is", "speech"),
        ({"kind": "songs"}, "lacks the setting path", "docs"),
        ({"kind": "speech", "path": "x", "noise_share": 2}, "noise_share", "docs"),
        ({"kind": "speech", "path": "speech", "augment": {}}, "only songs are augmented", "leave"),
    ],
)
def test_mistakes_name_what_was_meant(data: Path, table: dict[str, Any], message: str, remedy: str) -> None:
    with pytest.raises(OptionError, match=message) as caught:
        _open(data, table)
    assert remedy in caught.value.remedy
