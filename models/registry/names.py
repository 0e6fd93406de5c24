"""Where models are kept, and what they may be called."""

import os
import re
from collections.abc import Mapping
from pathlib import Path

import platformdirs

from stemwright.core.errors import OptionError
from stemwright.models.registry.catalog import catalog_entry

MODELS_VARIABLE = "STEMWRIGHT_MODELS"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def default_models_dir(environ: Mapping[str, str] | None = None) -> Path:
    """Return STEMWRIGHT_MODELS, or `models` in the user's data folder for stemwright."""
    value = (os.environ if environ is None else environ).get(MODELS_VARIABLE, "")
    return Path(value).expanduser() if value else platformdirs.user_data_path("stemwright") / "models"


def checked_name(name: str) -> str:
    """Return a name that a model may have in a store; raises OptionError for any other."""
    if NAME.fullmatch(name) is None:
        raise OptionError(
            f"{name!r} is not a name for a model",
            "use letters, digits, dots, dashes and underscores, and begin with a letter or digit",
        )
    return name


def mending_remedy(name: str) -> str:
    """Return what to do about a damaged model of that name."""
    if catalog_entry(name) is not None:
        return f"run `stemwright models pull {name} --force`"
    return "import the model again"
