"""`stemwright doctor`: what works on this machine and in this installation, and what to mend."""

import sys
from typing import Annotated

import typer

from stemwright.core.errors import EXIT_FAILURE, EXIT_OK

app = typer.Typer(help="Check this machine and this installation.")

_MARKS = {"ok": "ok     ", "note": "note   ", "problem": "PROBLEM"}


@app.command()
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> int:
    """Check this machine and this installation.

    Looks at Python, ONNX Runtime (exactly one build), the devices (a small graph runs on each, in a
    process of its own), memory, installed models and their hashes, decoders and encoders, disk space
    and cache folders. The exit code is 1 if something is broken.
    """
    from stemwright.service.cli.output import print_json_line
    from stemwright.service.cli.symptoms import examine

    findings = examine()
    broken = any(finding.state == "problem" for finding in findings)
    if as_json:
        print_json_line({"healthy": not broken, "findings": [finding.as_json() for finding in findings]})
    else:
        for finding in findings:
            sys.stdout.write(f"{_MARKS[finding.state]} {finding.subject}: {finding.detail}\n")
            if finding.remedy:
                sys.stdout.write(f"{'':7} -> {finding.remedy}\n")
    return EXIT_FAILURE if broken else EXIT_OK
