"""Terms of weights that the user accepted, remembered by their text in a small file of the store."""

import hashlib
import json
import os
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from stemwright.core.errors import LicenceError
from stemwright.models.manifest import Licence
from stemwright.models.registry.staging import storage_error

_FILE = ".accepted-terms.json"


class Ask(Protocol):
    """Show terms and ask whether they are accepted."""

    def __call__(self, licence: Licence, /) -> bool:
        """Return whether the user accepts the terms."""


def accept_none(licence: Licence) -> bool:
    """Accept nothing: for where nobody can be asked."""
    return False


def accept_all(licence: Licence) -> bool:
    """Accept on the word that the user gave beforehand (`--accept-licence`)."""
    return True


def terms_hash(licence: Licence) -> str:
    """Return the hash by which accepted terms are remembered: it changes with their text."""
    return hashlib.sha256("\n".join((licence.name, licence.text, licence.url)).encode()).hexdigest()


class AcceptedTerms:
    """The accepted terms of one store.

    Parameters
    ----------
    root
        Folder of the store.
    """

    def __init__(self, root: Path) -> None:
        self._path = root / _FILE

    def has(self, licence: Licence) -> bool:
        """Tell whether terms were accepted before, or need no acceptance."""
        return not licence.must_accept or terms_hash(licence) in self._read()

    def require(self, licence: Licence, ask: Ask, name: str) -> None:
        """See to it that the terms of the model `name` are accepted, asking once.

        Raises
        ------
        LicenceError
            They were not accepted.
        """
        if self.has(licence):
            return
        if not ask(licence):
            raise LicenceError(
                f"the terms of {name} were not accepted: {licence.name}",
                f"read them with `stemwright models info {name}`, then give --accept-licence",
            )
        self._add(licence)

    def _read(self) -> dict[str, object]:
        try:
            known = json.loads(self._path.read_text())
        except (OSError, ValueError):
            return {}  # asked again: the safe side
        return known if isinstance(known, dict) else {}

    def _add(self, licence: Licence) -> None:
        entry = {"name": licence.name, "accepted": datetime.now(UTC).isoformat(timespec="seconds")}
        known = self._read() | {terms_hash(licence): entry}
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(
                "w", dir=self._path.parent, prefix=_FILE, suffix=".part", delete=False
            ) as stream:
                json.dump(known, stream, indent=1)
            os.replace(stream.name, self._path)
        except OSError as error:
            raise storage_error(self._path, error) from error
