"""Check the code without running it: formatting, lint, types, imports.

    python3 scripts/check.py [--fix]

With --fix, ruff first formats and mends what it can.
"""

from __future__ import annotations

import argparse
import subprocess

import environment

FIXES = (
    ("ruff", "check", "--fix-only", "--quiet", "."),
    ("ruff", "format", "--quiet", "."),
)
CHECKS = (
    ("ruff", "format", "--check", "."),
    ("ruff", "check", "."),
    ("mypy",),
    ("lint-imports",),
)


def main() -> None:
    """Run all checks, also after one has failed; end with 1 if any did."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--fix", action="store_true", help="format and mend first")
    fixes = FIXES if parser.parse_args().fix else ()
    environment.set_up_development()
    for name, *arguments in fixes:
        environment.run(environment.program(name), *arguments)
    failed = []
    for name, *arguments in CHECKS:
        environment.say(" ".join((name, *arguments)))
        if subprocess.run([environment.program(name), *arguments], cwd=environment.ROOT).returncode:
            failed.append(name)
    if failed:
        environment.give_up(f"failed: {', '.join(failed)}", "Their messages stand above.")


if __name__ == "__main__":
    main()
