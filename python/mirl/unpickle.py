"""Pickles as plain data: nothing in them is imported, constructed or called.

`pickle.Unpickler` runs what a file says, with `find_class` as the only gate. Here `pickletools`
decodes the opcodes and a stack machine of a few lines keeps what they build: containers and
numbers, and records for everything else. It cannot call anything, because it knows no functions.
"""

from __future__ import annotations

import pickletools
import reprlib
import sys
from dataclasses import dataclass
from itertools import chain
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from mmap import mmap

LITERALS = frozenset(
    (
        *("INT", "LONG", "LONG1", "LONG4", "BININT", "BININT1", "BININT2", "FLOAT", "BINFLOAT"),
        *("STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "BINBYTES8", "SHORT_BINBYTES"),
        *("UNICODE", "BINUNICODE", "BINUNICODE8", "SHORT_BINUNICODE", "BYTEARRAY8"),
    )
)
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
PUT = frozenset(("PUT", "BINPUT", "LONG_BINPUT"))
GET = frozenset(("GET", "BINGET", "LONG_BINGET"))

PYTHON_2 = {"__builtin__": "builtins", "copy_reg": "copyreg"}
"""Modules that pickles of protocols 0 to 2 call by their old names."""

MAX_KEY = 8
"""Items of a tuple that is a key of a dict, none of them a tuple: nested ones may take forever to
hash, or more than the stack of the processor holds."""
MAX_KEY_BITS = 64
"""Of a whole number that is a key. Larger ones may all have one hash."""

SETS = frozenset(("builtins.set", "builtins.frozenset"))
"""Classes whose construction from at most one iterable becomes a list."""
ORDERED_DICT = "collections.OrderedDict"

CONSTRUCTORS = frozenset(
    (
        "_codecs.encode",
        "builtins.bytearray",
        "builtins.complex",
        "collections.Counter",
        "collections.defaultdict",
        "collections.deque",
        "copyreg._reconstructor",
        "datetime.datetime",
        "datetime.timedelta",
        "numpy._core.multiarray._reconstruct",
        "numpy._core.multiarray.scalar",
        "numpy.core.multiarray._reconstruct",
        "numpy.core.multiarray.scalar",
        "numpy.dtype",
        "pathlib.Path",
        "pathlib.PosixPath",
        "pathlib.PurePosixPath",
        "pathlib.PureWindowsPath",
        "pathlib.WindowsPath",
        "torch.Size",
        "torch._utils._rebuild_parameter",
        "torch._utils._rebuild_tensor_v2",
        "torch.device",
    )
)
"""What a checkpoint may seem to call; the call is kept as a record. Any other is refused."""

STANDARD_CLASSES = CONSTRUCTORS | {
    "argparse.Namespace",
    "builtins.bool",
    "builtins.bytes",
    "builtins.dict",
    "builtins.float",
    "builtins.frozenset",
    "builtins.int",
    "builtins.list",
    "builtins.object",
    "builtins.set",
    "builtins.str",
    "builtins.tuple",
    "collections.OrderedDict",
    "types.SimpleNamespace",
    "typing.Any",
}
"""Names of Python's own library that checkpoints mention; every other one is refused on sight."""


class UnpickleError(ValueError):
    """A pickle that is damaged, or that wants more than to hold data."""


@dataclass(frozen=True, eq=False)
class Global:
    """A name that the pickle mentions. Nothing was imported."""

    name: str


@dataclass(eq=False, repr=False)
class Record:
    """An object that the pickle describes. Nothing was constructed."""

    cls: str
    args: tuple[Any, ...]
    items: list[Any] | dict[Any, Any] | None = None
    """Of a subclass of list or dict, a deque or a defaultdict."""
    state: Any = None

    def __repr__(self) -> str:
        """Name the class alone: what it holds may have no end."""
        return f"Record({self.cls!r})"


def unpickle(file: IO[bytes] | mmap, persistent_load: Callable[[Any], Any] | None = None) -> Any:
    """Read one pickle from where `file` stands; afterwards it stands behind it.

    Parameters
    ----------
    file
        Bytes in memory, so that reading a length that the pickle only claims costs nothing.
    persistent_load
        What a reference to something outside the pickle means, as in `pickle.Unpickler`; without
        it, such a reference is refused.

    Returns
    -------
    object
        Numbers, strings, lists, tuples and dicts; ordered dicts are dicts, sets are lists.
        Names and other objects are `Global` and `Record`.

    Raises
    ------
    UnpickleError
        The pickle is damaged; or names a function, or a class of Python's own library that has no
        place in a checkpoint: the message names it.
    """
    machine = _Machine(persistent_load)
    try:
        for opcode, argument, _ in pickletools.genops(file):  # type: ignore[arg-type] # mmap reads, too
            machine.step(opcode.name, argument)
        return machine.pop()
    except UnpickleError:
        raise
    # What damage turns into depends on the byte: a short read, an empty stack, a list as a key.
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise UnpickleError(f"damaged pickle: {error}") from error


class _Machine:
    """The stack, the marks in it and the memo."""

    def __init__(self, persistent_load: Callable[[Any], Any] | None) -> None:
        self.persistent_load = persistent_load
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.steps = 0
        """Opcodes so far."""
        self.copied = 0
        """Items of the sets and ordered dicts so far."""

    def pop(self) -> Any:
        return self.stack.pop()

    def pop_mark(self) -> list[Any]:
        items = self.stack
        self.stack = self.below.pop()
        return items

    def step(self, name: str, argument: Any) -> None:
        self.steps += 1
        push = self.stack.append
        if name in LITERALS:
            push(argument)
        elif name in CONSTANTS:
            push(CONSTANTS[name])
        elif name in PUT:
            self.memo[argument] = self.stack[-1]
        elif name in GET:
            push(self.memo[argument])
        elif name in TUPLES:
            push(tuple(reversed([self.pop() for _ in range(TUPLES[name])])))
        else:
            method = getattr(self, f"op_{name.lower()}", None)
            if method is None:
                raise UnpickleError(f"opcode {name} has no place in a checkpoint")
            method(argument)

    def op_proto(self, _: int) -> None:
        pass

    op_frame = op_stop = op_proto

    def op_mark(self, _: None) -> None:
        self.below.append(self.stack)
        self.stack = []

    def op_pop(self, _: None) -> None:
        self.pop()

    def op_pop_mark(self, _: None) -> None:
        self.pop_mark()

    def op_dup(self, _: None) -> None:
        self.stack.append(self.stack[-1])

    def op_memoize(self, _: None) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def op_tuple(self, _: None) -> None:
        items = self.pop_mark()
        self.stack.append(tuple(items))

    def op_list(self, _: None) -> None:
        items = self.pop_mark()
        self.stack.append(items)

    op_frozenset = op_list

    def op_dict(self, _: None) -> None:
        items = self.pop_mark()
        self.stack.append(_pairs(items))

    def op_empty_list(self, _: None) -> None:
        self.stack.append([])

    op_empty_set = op_empty_list

    def op_empty_dict(self, _: None) -> None:
        self.stack.append({})

    def op_append(self, _: None) -> None:
        self._extend([self.pop()])

    def op_appends(self, _: None) -> None:
        self._extend(self.pop_mark())

    op_additems = op_appends

    def op_setitem(self, _: None) -> None:
        value, key = self.pop(), self.pop()
        self._update(_pairs([key, value]))

    def op_setitems(self, _: None) -> None:
        self._update(_pairs(self.pop_mark()))

    def _extend(self, items: list[Any]) -> None:
        self._container([]).extend(items)

    def _update(self, items: dict[Any, Any]) -> None:
        self._container({}).update(items)

    def _container(self, empty: list[Any] | dict[Any, Any]) -> Any:
        """What takes items: the top of the stack, or a container in its record."""
        target = self.stack[-1]
        if not isinstance(target, Record):
            return target
        if target.items is None:
            target.items = empty
        return target.items

    def op_global(self, name: str) -> None:
        module, _, attribute = name.partition(" ")
        self.stack.append(_global(module, attribute))

    def op_stack_global(self, _: None) -> None:
        attribute, module = self.pop(), self.pop()
        self.stack.append(_global(module, attribute))

    def op_inst(self, name: str) -> None:
        self.op_global(name)
        raise UnpickleError(f"an object of {name!r} in the manner of Python 1")

    def op_reduce(self, _: None) -> None:
        args, function = self.pop(), self.pop()
        name = function.name
        if name in SETS and len(args) <= 1:
            self.stack.append(list(self._items(args)))
        elif name == ORDERED_DICT and len(args) <= 1:
            pairs = self._items(args)
            if not all(isinstance(pair, (list, tuple)) and len(pair) == 2 for pair in pairs):
                raise UnpickleError("damaged pickle: an ordered dict of other things than pairs")
            self.stack.append(_pairs(list(chain.from_iterable(pairs))))
        elif name in CONSTRUCTORS:
            self.stack.append(Record(name, args))
        else:
            raise UnpickleError(f"wants to call {name}; nothing was executed")

    def _items(self, args: Any) -> list[Any]:
        """What a set or an ordered dict is called with, before it is copied."""
        items = args[0] if args else []
        if not isinstance(items, list):
            raise UnpickleError("damaged pickle: a set or an ordered dict that is of no list")
        # pickle writes a list for each of them, at least an opcode for each item; but a few bytes may
        # name one list any number of times.
        self.copied += len(items)
        if self.copied > self.steps:
            raise UnpickleError("sets and ordered dicts of more items than the pickle has opcodes")
        return items

    def op_newobj(self, _: None) -> None:
        args, cls = self.pop(), self.pop()
        self.stack.append(Record(cls.name, args))

    def op_newobj_ex(self, _: None) -> None:
        named, args, cls = self.pop(), self.pop(), self.pop()
        self.stack.append(Record(cls.name, args, state=named))

    def op_build(self, _: None) -> None:
        state, target = self.pop(), self.stack[-1]
        if isinstance(target, Record):
            target.state = state
        # PyTorch hangs `_metadata` onto the ordered dict of a state dict; it is of no use here.
        elif not isinstance(target, dict):
            raise UnpickleError(f"state for {type(target).__name__}")

    def op_binpersid(self, _: None) -> None:
        if self.persistent_load is None:
            raise UnpickleError("refers to something outside itself")
        self.stack.append(self.persistent_load(self.pop()))


def _pairs(items: list[Any]) -> dict[Any, Any]:
    if len(items) % 2:
        raise UnpickleError("damaged pickle: a key without a value")
    keys = items[::2]
    for key in keys:
        parts = key if isinstance(key, tuple) else (key,)
        if len(parts) > MAX_KEY or not all(map(_is_key, parts)):
            raise UnpickleError(f"a key of a dict that no checkpoint has: {reprlib.repr(key)}")
    return dict(zip(keys, items[1::2], strict=True))


def _is_key(value: Any) -> bool:
    """Whether a value that is no tuple takes a moment to hash, and to compare."""
    if isinstance(value, int):
        return value.bit_length() <= MAX_KEY_BITS
    return value is None or isinstance(value, (str, bytes, float, Global, Record))


def _global(module: Any, attribute: Any) -> Global:
    if not (isinstance(module, str) and isinstance(attribute, str)):
        raise UnpickleError("damaged pickle: a name that is no string")
    name = f"{PYTHON_2.get(module, module)}.{attribute}"
    if name.partition(".")[0] in sys.stdlib_module_names and name not in STANDARD_CLASSES:
        raise UnpickleError(
            f"names {name}, which has no place in a checkpoint; nothing was executed"
        )
    return Global(name)
