"""Data folders of songs with stems."""

from collections import Counter
from dataclasses import replace
from pathlib import Path, PurePosixPath

from stemwright.training.data.listing import (
    STEM_MP4,
    Entry,
    Fault,
    audio_files,
    parted,
    singer_or_song,
)

MUSDB18_STEMS = ("drums", "bass", "other", "vocals")  # the streams of a file after the mixture
# Those songs of the training part that the set's authors hold out, so that scores can be compared.
MUSDB18_VALIDATION = frozenset(
    (
        "Actions - One Minute Smile",
        "Alexander Ross - Goodbye Bolero",
        "ANiMAL - Rockshow",
        "Clara Berry And Wooldog - Waltz For My Victims",
        "Fergessen - Nos Palpitants",
        "James May - On The Line",
        "Johnny Lokke - Promises & Lies",
        "Leaf - Summerghost",
        "Meaxic - Take A Step",
        "Patrick Talbot - A Reason To Leave",
        "Skelpolu - Human Mistakes",
        "Traffic Experiment - Sirens",
        "Triviul - Angelsaint",
        "Young Griffo - Pennies",
    )
)
_MIR_1K_TRAINED = frozenset(("abjones", "amy"))
_MIXTURES = frozenset(("mixture", "mix"))
_TWO_CHANNELS = ("accompaniment", "vocals")  # left, right: MIR-1K and iKala alike


def musdb18(root: Path) -> tuple[list[Entry], list[Fault]]:
    """Songs as `.stem.mp4` files with a mixture and four stems."""
    entries = []
    for path in audio_files(root):
        if not path.name.lower().endswith(STEM_MP4):
            continue
        relative = PurePosixPath(path.relative_to(root))
        split, rest = parted(relative)
        name = str(relative)[: -len(STEM_MP4)]
        group = str(rest)[: -len(STEM_MP4)]
        part = _part(split, group)
        entries += [
            Entry(path=path, name=name, group=group, role=role, split=part, stream=number)
            for number, role in enumerate(MUSDB18_STEMS, start=1)
        ]
    return entries, []


def stems(root: Path) -> tuple[list[Entry], list[Fault]]:
    """Songs as folders of stem files; the stems are those that more than half of the songs have.

    A mixture is left out: what is trained on is the sum of the stems.
    """
    songs: dict[Path, dict[str, Path]] = {}
    doubles: dict[Path, str] = {}
    for path in audio_files(root):
        role = path.stem.lower()
        if path.parent == root or role in _MIXTURES:
            continue
        if role in songs.setdefault(path.parent, {}):
            doubles[path.parent] = role
        songs[path.parent][role] = path
    counts = Counter(role for files in songs.values() for role in files)
    wanted = tuple(sorted(role for role, count in counts.items() if 2 * count > len(songs)))
    entries, faults = [], []
    for folder, files in songs.items():
        relative = PurePosixPath(folder.relative_to(root))
        split, rest = _parted_song(relative)
        missing = [role for role in wanted if role not in files]
        if missing:
            faults.append(Fault(name=str(relative), reason=f"has no stem {' or '.join(missing)}"))
        elif folder in doubles:
            faults.append(Fault(name=str(relative), reason=f"has the stem {doubles[folder]} twice"))
        else:
            entries += [
                Entry(
                    path=files[role],
                    name=str(relative),
                    group=str(rest),
                    role=role,
                    split=_part(split, str(rest)),
                )
                for role in wanted
            ]
    return entries, faults


def two_channel(root: Path) -> tuple[list[Entry], list[Fault]]:
    """Clips with the accompaniment in the left channel and the voice in the right one."""
    entries = []
    for path in audio_files(root):
        relative = PurePosixPath(path.relative_to(root))
        split, _ = parted(relative)
        entries += [
            Entry(
                path=path, name=str(relative), group=singer_or_song(path.stem), role=role, split=split,
                channel=channel,
            )
            for channel, role in enumerate(_TWO_CHANNELS)
        ]  # fmt: skip
    return entries, []


def mixture_of(entry: Entry) -> Entry | None:
    """Return the mixture that lies beside a stem, as an entry; None where there is none."""
    if entry.path.name.lower().endswith(STEM_MP4):
        return replace(entry, role="mixture", stream=0)
    if not entry.role or entry.channel is not None:
        return None
    found = sorted(path for path in audio_files(entry.path.parent) if path.stem.lower() in _MIXTURES)
    return replace(entry, path=found[0], role="mixture") if found else None


def mir_1k(root: Path) -> tuple[list[Entry], list[Fault]]:
    """Clips of MIR-1K; those of two of its singers are trained on, as is usual."""
    entries, faults = two_channel(root)
    parts = (("train" if entry.group in _MIR_1K_TRAINED else "test") for entry in entries)
    return [replace(entry, split=part) for entry, part in zip(entries, parts, strict=True)], faults


def _parted_song(relative: PurePosixPath) -> tuple[str, PurePosixPath]:
    """Take the part off the front of a song's path, of DSD100 too: Sources/Dev/SONG."""
    if relative.parts[:2] in (("Sources", "Dev"), ("Sources", "Test")):
        split = "train" if relative.parts[1] == "Dev" else "test"
        return split, PurePosixPath(*relative.parts[2:])
    return parted(relative)


def _part(split: str, song: str) -> str:
    """Return the part that a song belongs to, MUSDB18's validation among the training folder."""
    return "validation" if split == "train" and song in MUSDB18_VALIDATION else split
