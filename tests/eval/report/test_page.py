"""The page of a report: its text, and what a real browser makes of it."""

import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path, PurePosixPath
from xml.etree import ElementTree

import numpy as np
import pytest

from stemwright.eval.report import page as page_module
from stemwright.eval.report.excerpts import Excerpt
from stemwright.eval.report.page import Report, page_bytes
from stemwright.eval.report.tables import score_tables
from stemwright.eval.rows import Run, StemScores, read_run
from stemwright.service.cli.eval_report_files import _free_name
from stemwright.service.cli.main import run
from tests.eval.report.runs import make_run
from tests.support.chromium import Chromium
from tests.support.data_sets import stem_folders

HOSTILE = "<img src=x onerror=alert(1)> & \"quoted\" 'it' \N{RIGHT-TO-LEFT OVERRIDE}gpj"
CLOSING = "</script><script>document.title = 'taken'</script>"
RNG = np.random.default_rng(9)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two runs over two tracks, one of a hostile name, whose estimates were kept."""
    folder = tmp_path_factory.mktemp("page")
    data = stem_folders(folder / "data")
    (data / "track 0").rename(data / HOSTILE)
    for oracle in ("irm", "mixture"):
        command = ["eval", "run", "-m", f"oracle:{oracle}", "--data", f"folder:{data}", "--keep-estimates"]
        assert run([*command, "-o", str(folder / oracle), "--metric", "bsseval", "--metric", "si-sdr"]) == 0
    return folder / "irm", folder / "mixture"


@pytest.fixture(scope="module")
def page(folders: tuple[Path, Path]) -> Path:
    file = folders[0].parent / "page.html"
    command = ["eval", "report", *map(str, folders), "--page", str(file), "--page-tracks", "2"]
    assert run([*command, "-o", str(file.with_suffix(".md"))]) == 0
    return file


class Elements(HTMLParser):
    """The elements of a page, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text.append(data)


@pytest.mark.slow
def test_names_are_text_and_nothing_is_fetched(page: Path) -> None:
    found = Elements(page.read_text())
    assert HOSTILE in found.text
    assert all(not name.startswith("on") for _, attributes in found.tags for name in attributes)
    addresses = [value or "" for _, a in found.tags for name, value in a.items() if name in ("src", "href")]
    assert addresses and all(address.startswith(("data:", "#")) for address in addresses)
    assert sum(tag == "script" for tag, _ in found.tags) == 1
    players = [attributes for tag, attributes in found.tags if tag == "audio"]
    assert len(players) >= 2 * 2 * 6  # tracks, stems, mixture, reference, and two of each run
    assert any(HOSTILE in (attributes["aria-label"] or "") for attributes in players)


def test_a_name_that_closes_scripts_does_not() -> None:
    runs = [make_run(CLOSING, {CLOSING: RNG.normal(size=(3, 2))}, column=CLOSING)]
    found = Elements(page_bytes(Report(runs=runs, scores=score_tables(runs), comparisons=[])).decode())
    assert sum(tag == "script" for tag, _ in found.tags) == 1
    assert CLOSING in found.text


@pytest.mark.slow
def test_a_run_without_audio_says_why(tmp_path: Path, folders: tuple[Path, Path]) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(folders[0], moved)
    facts = moved / "run.json"
    facts.write_text(re.sub(r'"data": ".*"', '"data": "folder:/nowhere"', facts.read_text()))
    command = ["eval", "report", str(moved), "--page", str(tmp_path / "p.html"), "-o", str(tmp_path / "t")]
    assert run(command) == 0
    assert (
        "There is nothing to hear: the references are not at folder:/nowhere"
        in (tmp_path / "p.html").read_text()
    )
    again = [*command, "--overwrite", "--data", f"folder:{folders[0].parent / 'data'}", "--page-tracks", "1"]
    assert run(again) == 0
    assert "<audio" in (tmp_path / "p.html").read_text()


def test_players_stop_at_the_size_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    signal = RNG.normal(0, 0.1, (1, 8000)).astype(np.float32)
    one = Excerpt(
        track="t", stem="s", run="m", column="SDR", what="worst", start_s=1, value=2, sample_rate=8000,
        gain=1, signals={"mixture": signal, "reference": signal},
    )  # fmt: skip
    monkeypatch.setattr(page_module, "MOST_LISTENING_BYTES", 200_000)
    runs = [make_run("m", {"s": np.ones((1, 1))})]
    text = page_bytes(Report(runs=runs, scores=[], comparisons=[], excerpts=[one] * 6)).decode()
    shown = text.count("<audio") // 2
    assert 1 <= shown < 6
    assert f"{6 - shown} more excerpts are left out" in text


@pytest.mark.slow
def test_plots_are_files_of_one_picture_each(folders: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "plots"
    command = ["eval", "report", *map(str, folders), "--metric", "SDR", "--page-tracks", "1"]
    command += ["--plots", str(out), "--plot-format", "svg", "-o", str(tmp_path / "tables.md")]
    assert run(command) == 0
    names = sorted(file.name for file in out.iterdir())
    assert names[0] == "boxes-SDR.svg"
    assert {name.split("-")[0] for name in names} == {"boxes", "frames", "spectrogram"}
    assert sum(name.startswith("spectrogram") for name in names) in (2, 3, 4)  # stems, one or two frames
    assert all(ElementTree.parse(file).getroot().tag.endswith("svg") for file in out.iterdir())
    assert run([*command, "--overwrite"]) == 0
    (tmp_path / "tables.md").unlink()
    assert run(command) == 2  # they exist


def test_two_names_that_no_disk_tells_apart_are_two_files() -> None:
    taken: dict[str, PurePosixPath] = {}
    names = [_free_name(("frames", name), "png", taken).name for name in ("a/b", "a:b", "A?B")]
    assert names == ["frames-a_b.png", "frames-a_b-2.png", "frames-A_B-3.png"]


@pytest.mark.slow
def test_a_browser_shows_plays_and_sorts_it(page: Path, folders: tuple[Path, Path], tmp_path: Path) -> None:
    with Chromium(tmp_path / "profile") as browser:
        browser.open(page)
        assert browser.run("document.title") == "Scores of oracle:irm, oracle:mixture"
        assert browser.run("[...document.images].every(image => image.complete && image.naturalWidth > 50)")
        check_players(browser)
        check_sorting(browser, [read_run(folder) for folder in folders])
        check_keyboard(browser)
        grounds = []
        for scheme in ("light", "dark"):
            browser.dress(width=390, height=844, scheme=scheme)
            assert browser.run("document.documentElement.scrollWidth") == 390
            grounds.append(browser.run("getComputedStyle(document.body).backgroundColor"))
        assert grounds == ["rgb(255, 255, 255)", "rgb(20, 23, 27)"]
        assert browser.complaints == []
        assert {address.partition(":")[0] for address in browser.requests} == {"file", "data"}
        assert [address for address in browser.requests if address.startswith("file")] == [page.as_uri()]
        taken = tmp_path / "taken.html"  # what would be asked for, the policy refuses, and this test sees it
        taken.write_text(page.read_text().replace("<main>", "<main><img src='http://127.0.0.1:9/x.png'>"))
        browser.open(taken)
        assert any("Content Security Policy" in complaint for complaint in browser.complaints)


def check_players(browser: Chromium) -> None:
    durations = browser.run(
        """Promise.all([...document.querySelectorAll("audio")].map(player => new Promise((done, failed) => {
            player.onerror = () => failed(new Error(player.error.message));
            if (player.readyState >= 1) { done(player.duration); }
            player.onloadedmetadata = () => done(player.duration);
        })))"""
    )
    assert len(durations) >= 24
    assert durations == pytest.approx([2] * len(durations), abs=0.3)  # MP3 pads
    # One at a time, and another of the same excerpt goes on where the first one was.
    paused, position = browser.run(
        """(async () => {
            const [first, second] = document.querySelectorAll("audio");
            await first.play();
            first.currentTime = 1;
            await second.play();
            second.pause();
            return [first.paused, second.currentTime];
        })()"""
    )
    assert paused
    assert position >= 0.9


def check_sorting(browser: Chromium, runs: list[Run]) -> None:
    values = sorted(
        stem.values["SI-SDR"] for one in runs for row in one.tracks for stem in row.stems.values()
    )
    head = """[...document.querySelectorAll("#track-table th")].find(head => head.textContent === "SI-SDR")"""
    column = """[...document.querySelectorAll("#track-table tbody tr")]
        .map(row => Number(row.cells[%d].dataset.value))"""
    index = browser.run(f"{head}.cellIndex")
    for expected, state in ((values, "ascending"), (values[::-1], "descending")):
        browser.run(f"{head}.querySelector('button').click()")
        assert browser.run(f"{head}.getAttribute('aria-sort')") == state
        assert browser.run(column % index) == expected
    shown = """[...document.querySelectorAll("#track-table tbody tr")].filter(row => !row.hidden).length"""
    browser.run("document.querySelector('input[type=search]').value = 'VOCALS'")
    browser.run("document.querySelector('input[type=search]').dispatchEvent(new Event('input'))")
    assert browser.run(shown) == 4


def check_keyboard(browser: Chromium) -> None:
    """The tabulator reaches links, tables, players, spectrograms, the field and the heads; they answer."""
    reached = set()
    browser.run("document.activeElement.blur(); scrollTo(0, 0)")
    for _ in range(400):
        browser.press("Tab")
        reached.add(browser.run("document.activeElement.localName"))
        if browser.run("document.activeElement.textContent") == "SAR" and "button" in reached:
            break
        if browser.run("document.activeElement.localName === 'summary' && !document.querySelector('[open]')"):
            browser.press("Enter")
    assert reached >= {"a", "div", "audio", "summary", "input", "button"}
    assert browser.run("document.querySelectorAll('details[open]').length") == 1
    browser.press(" ")
    assert browser.run("document.activeElement.closest('th').getAttribute('aria-sort')") == "ascending"


def test_runs_that_have_little_in_common_or_nothing_yet_have_a_page() -> None:
    framed = make_run("framed", {"s": RNG.normal(size=(3, 2))})
    plain = make_run("plain", {"s": RNG.normal(size=(4, 2))})
    without = {
        row.track: StemScores(values={"SDR": row.stems["s"].values["SDR"], "only": float("nan")})
        for row in plain.tracks
    }
    plain = replace(
        plain, tracks=tuple(replace(row, stems={"s": without[row.track]}) for row in plain.tracks)
    )
    empty = replace(framed, tracks=())
    for runs in ([plain, framed], [framed, plain], [empty], [empty, framed]):
        text = page_bytes(Report(runs=runs, scores=score_tables(runs), comparisons=[])).decode()
        assert text.count("<tr>") >= sum(len(run.tracks) for run in runs)
