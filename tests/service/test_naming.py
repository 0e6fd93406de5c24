import unicodedata
from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stemwright.core.errors import OptionError
from stemwright.service.naming import MAX_NAME_BYTES, NameTemplate, safe_name, same_file_key


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("song", "song"),
        ("../../etc/passwd", "_.._.._etc_passwd"),
        ("a\\b", "a_b"),
        ("", "track"),
        ("...", "track"),
        (". .", "track"),
        ("nul", "_nul"),
        ("COM1.backup", "_COM1.backup"),
        ("console", "console"),
        ("--help", "_--help"),
        ("tab\tand\x00nul", "tab_and_nul"),
        ("ends in dots...", "ends in dots"),
        ("right\u202eto left", "right_to left"),
        ("cafe\u0301", "caf\u00e9"),
        (
            "family \U0001f468\u200d\U0001f469\u200d\U0001f467",
            "family \U0001f468\u200d\U0001f469\u200d\U0001f467",
        ),
    ],
)
def test_examples(name: str, safe: str) -> None:
    assert safe_name(name) == safe


@given(st.text(st.characters(exclude_categories=[])))
def test_any_text_becomes_one_component_that_every_system_takes(name: str) -> None:
    safe = safe_name(name)
    assert 0 < len(safe.encode()) <= MAX_NAME_BYTES
    assert not set(safe) & set('/\\:*?"<>|\0\n\r\x1b')
    assert safe not in (".", "..")
    assert safe[0] not in "-. " and safe[-1] not in ". "
    assert safe == unicodedata.normalize("NFC", safe)
    assert safe_name(safe) == safe


def test_long_names_stay_different() -> None:
    one, two = safe_name("x" * 500 + "1"), safe_name("x" * 500 + "2")
    assert one != two
    assert same_file_key(PurePosixPath(one)) != same_file_key(PurePosixPath(two))


def test_keys_are_equal_where_some_file_system_would_mix_files_up() -> None:
    assert same_file_key(PurePosixPath("Straße/É")) == same_file_key(PurePosixPath("strasse/e\u0301"))


def test_template_places_result_beside_the_stems_or_in_the_folder() -> None:
    own = NameTemplate().paths("song", ("bass", "drums"), "wav", "tiny")
    assert own.files["drums"] == PurePosixPath("song/drums.wav")
    assert own.result == PurePosixPath("song/result.json")
    flat = NameTemplate("{track} ({stem}, {model}).{ext}").paths("song", ("bass",), "flac", "tiny")
    assert flat.files["bass"] == PurePosixPath("song (bass, tiny).flac")
    assert flat.result == PurePosixPath("song.result.json")
    by_stem = NameTemplate("{stem}/{track}.{ext}").paths("song", ("bass",), "mp3", "tiny")
    assert by_stem.result == PurePosixPath("song.result.json")


@pytest.mark.parametrize(
    "text",
    [
        *(
            "{track}",
            "/{track}/{stem}.{ext}",
            "a/../{stem}.{ext}",
            "{track}//{stem}.{ext}",
            "{stem}",
            "{stem",
        ),
        *("{track!r}/{stem}.{ext}", "{track:>9}/{stem}.{ext}", "{0}/{stem}.{ext}", "{stem.x}.{ext}"),
        "a\0/{stem}.{ext}",
    ],
)
def test_templates_that_make_no_sense(text: str) -> None:
    with pytest.raises(OptionError):
        NameTemplate(text)
