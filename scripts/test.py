"""Run the tests, from nothing but Python.

    python3 scripts/test.py [options of pytest]
    python3 scripts/test.py --set-up        # only makes the environment

Makes .venv with everything that the tests need, then runs the unmarked and the slow tests. A test that needs
something this machine lacks (a program, the weights of a real model) is skipped and says why.
"""

from __future__ import annotations

import sys

import environment


def main() -> None:
    """Set up and test."""
    arguments = sys.argv[1:]
    environment.set_up_development()
    if arguments == ["--set-up"]:
        return
    environment.run(environment.program("python"), "-m", "pytest", "-ra", *arguments)


if __name__ == "__main__":
    main()
