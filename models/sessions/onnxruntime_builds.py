"""Which builds of ONNX Runtime are installed: exactly one may be, because all write the same files."""

import contextlib
import importlib
from dataclasses import dataclass
from importlib import metadata

_DISTRIBUTIONS = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino", "onnxruntime-directml")


@dataclass(frozen=True, kw_only=True)
class RuntimeConflict:
    """Several ONNX Runtime builds over the same files.

    Parameters
    ----------
    installed
        Distributions, each with its version.
    owner
        The distribution whose files lie on disk now.
    """

    installed: tuple[str, ...]
    owner: str

    @property
    def message(self) -> str:
        """What is wrong, in one line."""
        return (
            f"{' and '.join(self.installed)} are installed over each other; "
            f"the files are those of {self.owner}"
        )

    @property
    def remedy(self) -> str:
        """How to mend it, in one line."""
        names = " ".join(entry.split(" ")[0] for entry in self.installed)
        return f"pip uninstall -y {names}, then install one: stemwright[cpu] or stemwright[gpu]"


def runtime_conflict() -> RuntimeConflict | None:
    """Tell whether several builds of ONNX Runtime lie over each other."""
    installed: list[str] = []
    for name in _DISTRIBUTIONS:
        with contextlib.suppress(metadata.PackageNotFoundError):
            installed.append(f"{name} {metadata.version(name)}")
    if len(installed) < 2:
        return None
    return RuntimeConflict(installed=tuple(installed), owner=onnxruntime_build())


def onnxruntime_build() -> str:
    """Name of the distribution whose files are the `onnxruntime` package on disk."""
    try:
        module = importlib.import_module("onnxruntime.capi.build_and_package_info")
    except ImportError:
        return "none"
    return str(getattr(module, "package_name", "unknown"))
