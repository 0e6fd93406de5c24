import base64
import io
import re
from pathlib import Path

import pytest
import soundfile

from stemwright.core.errors import OutputError
from stemwright.training.data.packing import open_data
from stemwright.training.data.preview import source_of, write_preview
from tests.support import data_folders


@pytest.mark.slow
def test_a_page_plays_and_shows_what_is_drawn(tmp_path: Path) -> None:
    pack = open_data(data_folders.speech(tmp_path / "data"), layout="speech", cache=tmp_path)
    source = source_of(pack, seconds=0.5)
    page = tmp_path / "page.html"
    write_preview(source, page, title="<b>speech</b> & more", count=2)
    text = page.read_text()
    assert "<b>" not in text and "&lt;b&gt;speech" in text
    assert not re.search(r'(src|href)="(?!data:)', text)  # it needs no other file
    parts = re.findall(r'src="data:([a-z/]+);base64,([^"]+)"', text)
    assert [kind for kind, _ in parts] == ["image/png", "audio/mpeg"] * 6
    assert base64.b64decode(parts[0][1]).startswith(b"\x89PNG")
    heard, rate = soundfile.read(io.BytesIO(base64.b64decode(parts[1][1])))
    assert rate == 8000 and len(heard) >= 4000
    mixture = source.example(0, 0, 0).mixture
    assert heard.std() == pytest.approx(float(mixture.std()), rel=0.1)
    with pytest.raises(OutputError, match="cannot write"):
        write_preview(source, tmp_path / "no" / "page.html", title="x", count=1)


def test_songs_have_a_row_of_stems(tmp_path: Path) -> None:
    pack = open_data(data_folders.songs(tmp_path / "data", 2, rate=7000), cache=tmp_path)
    write_preview(source_of(pack, seconds=0.5), tmp_path / "page.html", title="songs", count=1)
    text = (tmp_path / "page.html").read_text()
    names = re.findall(r"<figcaption>(\w+),", text)
    assert names == ["mixture", "bass", "drums", "other", "vocals"]
    assert text.count("data:audio/flac") == 5  # MP3 has no rate of 7 kHz
