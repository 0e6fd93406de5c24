"""A reader of pickles that runs nothing.

Pickle is a small stack language whose words can call any function by name. This reader knows the
words that torch's files are made of and carries them out itself, on plain data; a name is looked
up in a table of readers given by the caller and is never imported. Anything else is an error.

Reference: the opcodes as described by `pickletools`, which also cuts the stream into words here.
"""

import pickletools
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any, BinaryIO

from stemwright.core.errors import ModelFileError

MAX_WORDS = 2_000_000  # the largest known file of the family has some 20,000; chosen here
_REMEDY = "fetch the checkpoint again from its authors, and trust no other copy of it"

# Contents of a pickle are of any type by nature; whoever takes them out checks what they are.
Reader = Callable[..., Any]


@dataclass(frozen=True)
class Named:
    """A name that stood in a pickle, and what may be done with it: called, or only kept."""

    name: str
    call: Reader | None = None


class Ignored:
    """Stands for an object that no network needs, and that was not made."""


# What training frameworks leave in their checkpoints beside the tensors: settings, callbacks, schedules.
_IGNORED_PACKAGES = (
    "lightning",
    "lightning_fabric",
    "omegaconf",
    "pathlib",
    "pytorch_lightning",
    "torchmetrics",
    "typing",
    "uss",
)
_IGNORED_NAMES = frozenset(
    (
        "argparse.Namespace",
        "builtins.dict",
        "builtins.float",
        "builtins.int",
        "builtins.list",
        "functools.partial",
        "torch.Size",
        "torch.device",
        "torch.float32",
    )
)


def _is_ignored(name: str) -> bool:
    return name in _IGNORED_NAMES or name.partition(".")[0] in _IGNORED_PACKAGES


def _ignored(*_: Any) -> Ignored:
    return Ignored()


@dataclass
class _Machine:
    names: Mapping[str, Named]
    load: Callable[[Any], Any]
    stack: list[Any] = field(default_factory=list)
    marks: list[int] = field(default_factory=list)
    memo: dict[int, Any] = field(default_factory=dict)

    def pop(self) -> Any:
        floor = self.marks[-1] if self.marks else 0
        if len(self.stack) <= floor:
            raise _damaged("takes from an empty stack")
        return self.stack.pop()

    def top(self) -> Any:
        value = self.pop()
        self.stack.append(value)
        return value

    def since_mark(self) -> list[Any]:
        if not self.marks:
            raise _damaged("has no mark")
        start = self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def named(self, name: str) -> None:
        if name in self.names:
            self.stack.append(self.names[name])
        elif _is_ignored(name):
            self.stack.append(Named(name, _ignored))
        else:
            raise ModelFileError(f"the checkpoint calls {name}, which no known checkpoint needs", _REMEDY)

    def call(self) -> None:
        arguments, function = self.pop(), self.pop()
        if not isinstance(function, Named) or function.call is None or not isinstance(arguments, tuple):
            raise _damaged("calls what is no function")
        self.stack.append(function.call(*arguments))

    def take(self, index: int) -> None:
        if index not in self.memo:
            raise _damaged("refers to what it never kept")
        self.stack.append(self.memo[index])

    def set_items(self, items: list[Any]) -> None:
        target = self.top()
        if isinstance(target, Ignored):
            return
        if not isinstance(target, dict) or len(items) % 2:
            raise _damaged("fills what is no dictionary")
        target.update(_pairs(items))

    def extend(self, items: list[Any]) -> None:
        target = self.top()
        if isinstance(target, Ignored):
            return
        if not isinstance(target, list):
            raise _damaged("fills what is no list")
        target.extend(items)

    def build(self) -> None:
        """Attributes of an object: only those of an ordered dictionary and of a dtype occur."""
        self.pop()
        if not isinstance(self.top(), (dict, Named, Ignored)):
            raise _damaged("sets attributes of what has none")


def read_pickle(data: bytes | BinaryIO, names: Mapping[str, Named], load: Callable[[Any], Any]) -> Any:
    """Read a pickle into plain data.

    Parameters
    ----------
    data
        The pickle, or a stream that stands at one; the stream then stands behind it.
    names
        What may be named, by dotted name.
    load
        Takes a persistent id (torch: a storage) and returns what stands for it.

    Raises
    ------
    ModelFileError
        The pickle names something that is neither in `names` nor of those packages whose objects are
        passed over, uses a word that no known checkpoint needs, or is damaged.
    """
    machine = _Machine(names=names, load=load)
    try:
        return _run(machine, BytesIO(data) if isinstance(data, bytes) else data)
    except (ValueError, TypeError, OverflowError, UnicodeError) as error:
        raise _damaged(str(error).splitlines()[0] if str(error) else "cannot be read") from error


def _run(machine: _Machine, data: BinaryIO) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of text with bad escapes, which is refused
        for count, (opcode, argument, _) in enumerate(pickletools.genops(data)):
            if count > MAX_WORDS:
                raise _damaged(f"has more than {MAX_WORDS} words")
            if opcode.name == "STOP":
                return machine.pop()
            if opcode.name in _CONSTANTS:
                machine.stack.append(argument)
            elif opcode.name in _WORDS:
                _WORDS[opcode.name](machine, argument)
            else:
                raise ModelFileError(
                    f"the checkpoint's pickle uses {opcode.name}, which no known checkpoint needs", _REMEDY
                )
    raise _damaged("has no end")


def _damaged(what: str) -> ModelFileError:
    return ModelFileError(f"the checkpoint's pickle is damaged: it {what}", _REMEDY)


def _pairs(items: list[Any]) -> dict[Any, Any]:
    keys, values = items[0::2], items[1::2]
    for key in keys:
        # Nothing else occurs; and the hash of a tuple nested a million deep would end the process.
        if not isinstance(key, (str, int)):
            raise _damaged("has a key that is neither text nor a number")
    return dict(zip(keys, values, strict=True))


def _tuple(count: int) -> Callable[[_Machine, Any], None]:
    def word(machine: _Machine, argument: Any) -> None:
        items = [machine.pop() for _ in range(count)]
        machine.stack.append(tuple(reversed(items)))

    return word


def _constant(value: Callable[[], Any]) -> Callable[[_Machine, Any], None]:
    def word(machine: _Machine, argument: Any) -> None:
        machine.stack.append(value())

    return word


def _ignore(machine: _Machine, argument: Any) -> None:
    return None


def _keep(machine: _Machine, index: int) -> None:
    machine.memo[index] = machine.top()


def _memoize(machine: _Machine, argument: Any) -> None:
    machine.memo[len(machine.memo)] = machine.top()


def _mark(machine: _Machine, argument: Any) -> None:
    machine.marks.append(len(machine.stack))


def _global(machine: _Machine, argument: str) -> None:
    machine.named(argument.replace(" ", "."))


def _stack_global(machine: _Machine, argument: Any) -> None:
    name, module = machine.pop(), machine.pop()
    if not isinstance(name, str) or not isinstance(module, str):
        raise _damaged("has a name that is no text")
    machine.named(f"{module}.{name}")


def _persistent(machine: _Machine, argument: Any) -> None:
    machine.stack.append(machine.load(machine.pop()))


def _append(machine: _Machine, argument: Any) -> None:
    machine.extend([machine.pop()])


def _set_item(machine: _Machine, argument: Any) -> None:
    value, key = machine.pop(), machine.pop()
    machine.set_items([key, value])


_CONSTANTS = frozenset(
    (
        "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT",
        "SHORT_BINSTRING", "BINSTRING",  # text of Python 2, in CDPAM's file; read as Latin-1
        "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8",
        "SHORT_BINBYTES", "BINBYTES", "BINBYTES8",
    )
)  # fmt: skip
_WORDS: Mapping[str, Callable[[_Machine, Any], None]] = {
    "PROTO": _ignore,
    "FRAME": _ignore,
    "NONE": _constant(lambda: None),
    "NEWTRUE": _constant(lambda: True),
    "NEWFALSE": _constant(lambda: False),
    "EMPTY_TUPLE": _constant(tuple),
    "EMPTY_LIST": _constant(list),
    "EMPTY_DICT": _constant(dict),
    "MARK": _mark,
    "TUPLE": lambda machine, _: machine.stack.append(tuple(machine.since_mark())),
    "LIST": lambda machine, _: machine.stack.append(list(machine.since_mark())),
    "DICT": lambda machine, _: machine.stack.append(_pairs(machine.since_mark())),
    "TUPLE1": _tuple(1),
    "TUPLE2": _tuple(2),
    "TUPLE3": _tuple(3),
    "APPEND": _append,
    "APPENDS": lambda machine, _: machine.extend(machine.since_mark()),
    "SETITEM": _set_item,
    "SETITEMS": lambda machine, _: machine.set_items(machine.since_mark()),
    "PUT": _keep,
    "BINPUT": _keep,
    "LONG_BINPUT": _keep,
    "MEMOIZE": _memoize,
    "GET": lambda machine, index: machine.take(index),
    "BINGET": lambda machine, index: machine.take(index),
    "LONG_BINGET": lambda machine, index: machine.take(index),
    "GLOBAL": _global,
    "STACK_GLOBAL": _stack_global,
    "REDUCE": lambda machine, _: machine.call(),
    "NEWOBJ": lambda machine, _: machine.call(),
    "BUILD": lambda machine, _: machine.build(),
    "BINPERSID": _persistent,
}
