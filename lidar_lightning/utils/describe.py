"""What tells one object from another, as JSON: for the settings of a run folder and the versions of stored scores.

Functions and classes are told apart by what they do, not by their names: by a hash of their compiled code (which,
unlike the file it came from, is what runs), of the values they were made with, and of the functions, classes and
constants of the user's own files that they use. Another version of Python compiles to other code, and so counts as a
change.
"""

import functools
import hashlib
import inspect
import json
import logging
import pickle
import sys
import sysconfig
from collections.abc import Iterator
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lidar_lightning.utils.weights import fingerprint

logger = logging.getLogger(__name__)
PACKAGE = "lidar_lightning"
INSTALLED = tuple(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib"))
CONSTANTS = (str, bytes, int, float, bool, type(None), list, tuple, set, frozenset, dict, Tensor, np.ndarray, nn.Module)


def describe(value: Any, within: tuple[int, ...] = ()) -> Any:
    """An object, and what it is made of, as JSON.

    An object is described by what its method `described()` returns, if it has one, as rewards do; a network or tensor
    by a fingerprint; a function or class by its import path and, unless it is of this package, a hash of what it does;
    any other object by its class and its public settings.

    Args:
        value: any object; a warning names one that has nothing by which it could be told from another.
        within: ids of the objects that hold it, so that an object that holds itself is described once.
    """
    if isinstance(value, str | int | float | bool | None):
        return value
    if id(value) in within:
        return "itself"
    within += (id(value),)
    if isinstance(value, list | tuple):
        return [describe(item, within) for item in value]
    if isinstance(value, set | frozenset):
        return sorted((describe(item, within) for item in value), key=repr)
    if isinstance(value, dict):
        return {str(key): describe(item, within) for key, item in value.items()}
    if isinstance(value, ModuleType):
        return value.__name__
    if isinstance(value, FunctionType | BuiltinFunctionType | type):
        return _code_identity(value, within)
    if isinstance(value, MethodType):
        return {"function": describe(value.__func__, within), "self": describe(value.__self__, within)}
    if isinstance(value, functools.partial):
        return {"function": describe(value.func, within), "given": describe([value.args, value.keywords], within)}
    if _has_own(value, "described"):
        return value.described()
    if (inner := _function_of(value)) is not value:
        return describe(inner, within)
    kind = type(value).__name__ if is_package(type(value)) else describe(type(value), within)
    if isinstance(value, nn.Module):
        return {"class": kind, "fingerprint": _fingerprint(kind, value)}
    if isinstance(value, Tensor):
        content = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        return {"class": kind, "shape": list(value.shape), "dtype": str(value.dtype), "hash": _hash(content)}
    if isinstance(value, np.ndarray):
        return {"class": kind, "hash": _hash(pickle.dumps(np.array(value)))}
    public = public_settings(value)
    return {"class": kind, **{key: describe(item, within) for key, item in public.items()}, **_opaque(value, public)}


def digest(value: Any) -> str:
    """A hash, of 16 hexadecimal digits, of what `describe` says."""
    return _hash(json.dumps(describe(value), sort_keys=True).encode())


def is_package(code: Any) -> bool:
    """Whether a class or function belongs to this package, whose versions are kept by hand."""
    return str(code.__module__).partition(".")[0] == PACKAGE


def public_settings(value: Any) -> dict[str, Any]:
    """The attributes of an object that are neither private nor cached results."""
    return {
        key: item
        for key, item in getattr(value, "__dict__", {}).items()
        if not key.startswith("_")
        and not isinstance(inspect.getattr_static(type(value), key, None), functools.cached_property)
    }


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _opaque(value: Any, public: dict[str, Any]) -> dict[str, str]:
    """Of an object without public settings, a hash of its state."""
    if public or is_package(type(value)) or not (hasattr(value, "__slots__") or _has_state(value)):
        return {}
    try:
        return {"hash": _hash(pickle.dumps(value))}
    except Exception:  # whatever a foreign class raises
        name = type(value).__qualname__
        logger.warning("a %s cannot be told apart from another: where it matters to scores, change the version", name)
        return {}


def _fingerprint(kind: str, network: Any) -> str:
    return network.fingerprint() if _has_own(network, "fingerprint") else fingerprint(kind, network.state_dict())


def _has_own(value: Any, method: str) -> bool:
    """Whether an object says itself what it is."""
    return callable(inspect.getattr_static(type(value), method, None))


def _has_state(value: Any) -> bool:
    return bool(getattr(value, "__dict__", {})) or not hasattr(value, "__dict__")


def _code_identity(root: Any, within: tuple[int, ...]) -> str:
    """Import path of a function or class, and a hash of what it does."""
    path = f"{root.__module__}:{root.__qualname__}"
    if isinstance(root, BuiltinFunctionType) or is_package(root) or (isinstance(root, type) and not _is_own(root)):
        return path
    return f"{path} {_hash(json.dumps(list(_parts(root, within)), sort_keys=True).encode())}"


def _parts(root: Any, within: tuple[int, ...]) -> Iterator[Any]:
    """Code and values of a function or class, and of all own ones that it rests on, each once."""
    todo, known = [root], set()
    while todo:
        item = todo.pop()
        if id(item) in known:
            continue
        known.add(id(item))
        yield [item.__qualname__, [_compiled(code) for code in _codes(getattr(item, "__code__", None))]]
        for name, value in sorted(_used(item).items()):
            if isinstance(value, FunctionType | type):
                todo += [value] if _is_own(value) else []
            elif isinstance(value, CONSTANTS) or _is_own(type(value)) or not hasattr(value, "__dict__"):
                yield [name, describe(value, within)]


def _used(item: Any) -> dict[str, Any]:
    """By name, what a function was made with and refers to, and what a class consists of."""
    if isinstance(item, type):
        bases = {base.__qualname__: base for base in item.__mro__[1:]}
        members = {name: _function_of(member) for name, member in vars(item).items()}
        shown = {name: member for name, member in members.items() if not name.startswith("__")}
        methods = {name: member for name, member in members.items() if isinstance(member, FunctionType)}
        return {**bases, **{name: value for name, value in shown.items() if isinstance(value, CONSTANTS)}, **methods}
    names = {name for code in _codes(item.__code__) for name in code.co_names} if _is_own(item) else set()
    seen = {name: item.__globals__[name] for name in names & item.__globals__.keys()}
    for module in [value for value in seen.values() if isinstance(value, ModuleType) and _is_own(value)]:
        seen |= {f"{module.__name__}.{name}": vars(module)[name] for name in names & vars(module).keys()}
    cells = zip(item.__code__.co_freevars, item.__closure__ or (), strict=True)
    made = {name: cell.cell_contents for name, cell in cells} | {"()": item.__defaults__, "(*)": item.__kwdefaults__}
    return {name: _function_of(value) for name, value in {**seen, **made}.items() if not isinstance(value, ModuleType)}


def _function_of(member: Any) -> Any:
    """The function in a static, class or cached method, a property, or a wrapper that is none itself."""
    if isinstance(member, property):
        return member.fget
    if isinstance(member, functools.cached_property):
        return member.func
    if isinstance(member, FunctionType):
        return member
    return inspect.getattr_static(member, "__wrapped__", member)


def _codes(code: CodeType | None) -> Iterator[CodeType]:
    """A code object and those of the functions and comprehensions in it; none of None."""
    if code:
        yield code
        for constant in code.co_consts:
            if isinstance(constant, CodeType):
                yield from _codes(constant)


def _compiled(code: CodeType) -> list[Any]:
    """What a code object does, without its file and lines."""
    constants = [
        sorted(map(repr, constant)) if isinstance(constant, frozenset) else repr(constant)
        for constant in code.co_consts
        if not isinstance(constant, CodeType)
    ]
    names = [code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars]
    return [code.co_code.hex(), code.co_exceptiontable.hex(), constants, names]


def _is_own(code: Any) -> bool:
    """Whether a function, class or module is of the user's own files, neither of this package nor installed."""
    name = code.__name__ if isinstance(code, ModuleType) else str(code.__module__)
    module = sys.modules.get(name)
    file = getattr(module, "__file__", None)
    built_in = name in sys.builtin_module_names or name in sys.stdlib_module_names
    return name.partition(".")[0] != PACKAGE and not built_in and not (file and file.startswith(INSTALLED))
