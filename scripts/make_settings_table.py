"""Write the table of settings in docs/service.md from the settings themselves.

python scripts/make_settings_table.py           writes it
python scripts/make_settings_table.py --check   fails if it is out of date
"""

import sys
from pathlib import Path
from typing import Any

from stemwright.service.settings import Settings

TARGET = Path(__file__).resolve().parents[1] / "docs" / "service.md"
HEAD = "| setting | default | meaning |\n|---|---|---|\n"
# What depends on the machine.
COMPUTED = {"data_dir": "in the user's data folder"}


def table() -> str:
    """Return a line for each setting below the head."""
    return HEAD + "".join(
        f"| `{name}` | {_default(name, field.default)} | {field.description} |\n"
        for name, field in Settings.model_fields.items()
    )


def _default(name: str, value: Any) -> str:
    if name in COMPUTED:
        return COMPUTED[name]
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple):
        value = ",".join(value)
    if isinstance(value, float):
        value = f"{value:g}"
    return f"`{value}`" if isinstance(value, str | int) and value != "" else ""


def updated(text: str) -> str:
    """Return the page with the table in place of the one it has."""
    before, _, rest = text.partition(HEAD)
    lines = rest.splitlines(keepends=True)
    end = next((number for number, line in enumerate(lines) if not line.startswith("|")), len(lines))
    return before + table() + "".join(lines[end:])


def main() -> int:
    """Write or check."""
    text = TARGET.read_text()
    if sys.argv[1:] == ["--check"]:
        return int(updated(text) != text)
    TARGET.write_text(updated(text))
    return 0


if __name__ == "__main__":
    sys.exit(main())
