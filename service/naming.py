"""Names of output files: what a track and a stem may be called on any disk, and templates of paths."""

import hashlib
import re
import string
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from stemwright.core.errors import OptionError

DEFAULT_TEMPLATE = "{track}/{stem}.{ext}"
RESULT_FILE = "result.json"
# File systems allow 255 bytes; the rest is room for `.partial-XXXXXXXX`, `.stem.mp4` and the dot in front.
MAX_NAME_BYTES = 200
_DIGEST_DIGITS = 8

_FORBIDDEN = re.compile(r'[/\\:*?"<>|]')
# Device names that Windows reserves, with any extension (Microsoft, "Naming Files, Paths, and Namespaces").
_DEVICES = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³])( *\..*)?", re.IGNORECASE)
_UNPRINTABLE = frozenset({"Cc", "Cs", "Co", "Cn", "Zl", "Zp"})
_BIDI_CONTROLS = frozenset("\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff")


def safe_name(name: str, *, fallback: str = "track") -> str:
    """Return `name` as one path component that Linux, macOS and Windows all accept.

    Separators, characters that Windows forbids, control and direction characters and undecodable bytes
    become `_`; a leading dash or dot and a device name get a `_` in front; trailing dots and spaces go;
    a name beyond `MAX_NAME_BYTES` is cut and ends in a digest of the whole, so that two long names
    stay different.

    Parameters
    ----------
    name
        Any text, undecodable bytes as lone surrogates.
    fallback
        Returned where nothing is left.
    """
    text = unicodedata.normalize("NFC", name)
    text = "".join("_" if _unsafe(character) else character for character in text)
    text = _FORBIDDEN.sub("_", text).strip().rstrip(". ")
    if not text:
        return fallback
    if text[0] in "-." or _DEVICES.fullmatch(text):
        text = f"_{text}"
    return _cut(text)


def _unsafe(character: str) -> bool:
    return unicodedata.category(character) in _UNPRINTABLE or character in _BIDI_CONTROLS


def _cut(text: str) -> str:
    data = text.encode()
    if len(data) <= MAX_NAME_BYTES:
        return text
    digest = hashlib.sha256(data).hexdigest()[:_DIGEST_DIGITS]
    kept = data[: MAX_NAME_BYTES - _DIGEST_DIGITS - 1].decode(errors="ignore").rstrip(". ")
    return f"{kept}~{digest}"


def same_file_key(path: PurePosixPath) -> str:
    """Return a key that is equal for paths which some file system takes for the same file."""
    return unicodedata.normalize("NFC", str(path)).casefold()


@dataclass(frozen=True, kw_only=True)
class TrackPaths:
    """Where a track's files go, relative to the output folder."""

    files: Mapping[str, PurePosixPath]
    result: PurePosixPath


class NameTemplate:
    """A template of relative paths with `{track}`, `{stem}`, `{ext}` and `{model}`.

    Parameters
    ----------
    text
        The template, `/` between folders.

    Raises
    ------
    OptionError
        An unknown field, an absolute path, a `..`, or no `{stem}` or `{ext}` where they are needed.
    """

    FIELDS = frozenset({"track", "stem", "ext", "model"})

    def __init__(self, text: str = DEFAULT_TEMPLATE) -> None:
        self.text = text
        try:
            pieces = [
                (name, spec, conversion) for _, name, spec, conversion in string.Formatter().parse(text)
            ]
        except ValueError as error:
            raise OptionError(f"the name template {text!r} is malformed", self._advice()) from error
        used = {name for name, _, _ in pieces if name is not None}
        if used - self.FIELDS or any(spec or conversion for _, spec, conversion in pieces):
            raise OptionError(f"the name template {text!r} has an unknown field", self._advice())
        parts = text.split("/")
        if text.startswith("/") or any(part.strip() in ("", ".", "..") for part in parts) or "\0" in text:
            raise OptionError(f"the name template {text!r} is no relative path", self._advice())
        if "stem" not in used or not parts[-1].endswith("{ext}"):
            raise OptionError(
                f"the name template {text!r} lacks {{stem}} or the {{ext}} at its end", self._advice()
            )
        folder = "/".join(parts[:-1])
        self._own_folder = "{track}" in folder and "{stem}" not in folder

    @staticmethod
    def _advice() -> str:
        return "write one like {track}/{stem}.{ext}; {model} is known too"

    def paths(self, track: str, stems: tuple[str, ...], extension: str, model: str) -> TrackPaths:
        """Return the files of one track; names must be safe already.

        The result file stands beside the stems where the track has a folder of its own, else it is
        `TRACK.result.json` in the output folder.
        """
        files = {
            stem: PurePosixPath(self.text.format(track=track, stem=stem, ext=extension, model=model))
            for stem in stems
        }
        if self._own_folder:
            return TrackPaths(files=files, result=next(iter(files.values())).parent / RESULT_FILE)
        return TrackPaths(files=files, result=PurePosixPath(f"{track}.{RESULT_FILE}"))
