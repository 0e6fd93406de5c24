"""Check the code without running it: formatting, lint, types, imports.

python3 scripts/check.py
"""

from __future__ import annotations

import subprocess

import environment

CHECKS = (
    ("ruff", "format", "--check", "."),
    ("ruff", "check", "."),
    ("mypy",),
    ("lint-imports",),
)


def main() -> None:
    """Run all checks, also after one has failed; end with 1 if any did."""
    environment.set_up_development()
    failed = []
    for name, *arguments in CHECKS:
        environment.say(" ".join((name, *arguments)))
        if subprocess.run([environment.program(name), *arguments], cwd=environment.ROOT).returncode:
            failed.append(name)
    if failed:
        environment.give_up(f"failed: {', '.join(failed)}", "Their messages stand above.")


if __name__ == "__main__":
    main()
