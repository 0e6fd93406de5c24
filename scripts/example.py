"""Separate the excerpt in examples/ with the real model, from nothing but Python.

    python3 scripts/example.py [--accept-licence] [--from FILE_OR_URL] [options of `stemwright separate`]

Makes .venv, installs stemwright with its CPU runtimes, fetches HTDemucs' weights from the first source that
answers (you are shown their terms and asked), and writes the four stems below ./separated.
"""

from __future__ import annotations

import argparse
import time

import environment

MODEL = "htdemucs"
EXCERPT = "examples/excerpt.opus"


def main() -> None:
    """Set up, fetch, separate."""
    parser = argparse.ArgumentParser(
        description="Separate examples/excerpt.opus with HTDemucs into ./separated.",
        epilog="Any other option goes to `stemwright separate`.",
    )
    parser.add_argument("--accept-licence", action="store_true", help="accept the terms of the weights")
    parser.add_argument("--from", dest="source", metavar="FILE_OR_URL", help="take the weights from here")
    options, rest = parser.parse_known_args()
    started = time.monotonic()
    environment.set_up_serving()
    stemwright = environment.program("stemwright")
    pull = [stemwright, "models", "pull", MODEL]
    pull += ["--accept-licence"] if options.accept_licence else []
    pull += ["--from", options.source] if options.source else []
    environment.run(*pull)
    environment.run(stemwright, "separate", EXCERPT, "-o", "separated", "-m", MODEL, "--overwrite", *rest)
    environment.say(f"done in {time.monotonic() - started:.0f} s in all; listen to ./separated/excerpt/")


if __name__ == "__main__":
    main()
