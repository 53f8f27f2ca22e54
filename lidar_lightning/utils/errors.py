"""One line for any error: the cause, which jsonargparse wraps in many lines, with the key where it happened."""

import argparse
import difflib
import importlib
import inspect
import pickle
import re
from collections.abc import Iterable, Iterator, Sequence
from types import FrameType
from typing import Any

import yaml
from lightning.fabric.utilities.exceptions import MisconfigurationException
from safetensors import SafetensorError

from lidar_lightning.utils.parser import SettingsParser

INPUT_ERRORS = (
    ValueError, OSError, ImportError, SyntaxError, RuntimeError, argparse.ArgumentError, MisconfigurationException,
    SafetensorError, pickle.UnpicklingError, yaml.YAMLError,
)  # fmt: skip
"""What bad input ends in; everything else is a fault of this software."""

LONGEST = 700
WRAPPERS = ('Parser key "', "Does not validate against any of the Union", "Problem with given class_path")
PATH_HINT = re.compile(r"^\s*- Expected a path but .*\n- ")


def one_line(error: BaseException, homes: Sequence[str] = ()) -> tuple[str, bool]:
    """What an error says, in one line that begins with the key of the configuration where it happened, if there is one.

    Args:
        error: the exception.
        homes: modules whose classes may be named in a YAML.

    Returns:
        the line, and whether the input is at fault rather than this software.
    """
    links = list(_links(error))
    files = [note for link in links for note in getattr(link, "__notes__", ())][:1]
    guilty = isinstance(error, argparse.ArgumentError) or isinstance(links[-1], INPUT_ERRORS)
    text = _said(links, homes) if guilty else f"unexpected {type(links[-1]).__name__}: {links[-1]}"
    places = [*files, *filter(None, [".".join(filter(None, _keys(links)))])]
    return ": ".join((*places, _shorten(text))), guilty


def closest(word: str, known: Iterable[str]) -> str:
    """Asks whether a misspelt name means one of the known names near it; if none is near, names up to twenty."""
    names = sorted(set(known))
    near = difflib.get_close_matches(word, names, 3, 0.7)
    if near:
        return f"did you mean {' or '.join(near)}?"
    return f"known are {', '.join(names)}" if 0 < len(names) <= 20 else "see --help for what there is"


def _links(error: BaseException) -> Iterator[BaseException]:
    """The error and what it wraps, down to the cause."""
    while True:
        yield error
        text = PATH_HINT.sub("", str(error))
        repeated = error.__cause__ is not None and str(error.__cause__) == str(error)
        if error.__cause__ is None or not (repeated or text.startswith(WRAPPERS) or text != str(error)):
            return
        error = error.__cause__


def _keys(links: list[BaseException]) -> Iterator[str]:
    """The path of a configuration's keys, from the frames of jsonargparse that were working on each."""
    seen: set[FrameType] = set()
    for link in links:
        trace = link.__traceback__
        while trace:
            frame, names, trace = trace.tb_frame, trace.tb_frame.f_locals, trace.tb_next
            if frame in seen or "jsonargparse" not in frame.f_code.co_filename:
                continue
            seen.add(frame)
            if frame.f_code.co_name == "instantiate" and trace and trace.tb_frame.f_code.co_name != "instantiate":
                yield getattr(names.get("component"), "dest", "")
            elif frame.f_code.co_name == "_check_type":
                yield names["self"].dest
            elif frame.f_code.co_name == "adapt_typehints" and names.get("typehint_origin") is dict and "k" in names:
                yield str(names["k"])


def _said(links: list[BaseException], homes: Sequence[str]) -> str:
    """The message of the cause, in words of our own where jsonargparse's say little."""
    texts = [PATH_HINT.sub("", str(link)) for link in links]
    text = texts[-1]
    paths = [found[1] for found in (re.match("Problem with given class_path '([^']*)'", t) for t in texts) if found]
    if found := re.match(r"(?:Option|Subcommand '\w+' does not accept option) '([^']*)'", text):
        known = _parameters(paths[-1]) if paths else [option.removeprefix("--") for option in _options(links)]
        first = found[1].partition(".")[0]
        name = found[1] if paths or first in known else first
        return f"{paths[-1] if paths else 'the command'} takes no {name!r}: {closest(name, known)}"
    if found := re.match(r"unrecognized arguments: ([^\s=]+)", text):
        return f"there is no option {found[1]}: {closest(found[1], _options(links))}"
    if found := re.match(r"Expected a dot import path string: (.*)", text):
        return f"no class {found[1]!r}: {_closest_class(found[1], homes)}"
    if paths and isinstance(links[-1], ImportError | AttributeError):
        return f"no class {paths[-1]!r} ({text}): {_closest_class(paths[-1], homes)}"
    if text.startswith("Expected a "):
        return _expected(texts)
    if text.startswith("Not a valid subclass of "):
        return f"{text.splitlines()[0]}: give a class_path and its init_args".replace(". Got value:", ", got")
    if text.startswith("Import path "):
        return f"{text}: give the path of one"
    if text.startswith("the following arguments are required"):
        if paths:
            return f"{paths[-1]} needs {text.partition(': ')[2]}: give a class_path, and this among its init_args"
        given, names = _options(links), text.partition(": ")[2].split(", ")
        takes = "--config" in given and f"--{names[0].rpartition('.')[2]}" in given
        return f"{text}{': give a configuration, -c NAME or FILE, or these as options' * takes} (see --help)"
    if text.startswith("Unexpected config"):
        return f"a configuration is a YAML of keys and values, got {text.partition(':')[2].strip() or 'nothing'}"
    return text


def _expected(texts: list[str]) -> str:
    """What types a value may have: those of the innermost union, if the cause lies in one."""
    value = re.search(r"Got value: (.*)", texts[-1], re.S)
    union = re.search(r"^Subtypes: \[(.*)\]$", texts[-2], re.M) if len(texts) > 1 else None
    types = union[1] if union else texts[-1].removeprefix("Expected a ").partition(". Got value")[0]
    names = re.sub(r"<class '([^']*)'>", r"\1", types).replace("NoneType", "null")
    names = re.sub(r"Literal\[(.*?)\]", r"\1", re.sub(r"\b(?:[a-z_]\w*\.)+(?=\w)", "", names))
    return f"expected {names.replace(', ', ' or ') if union else names}, got {value[1] if value else 'another value'}"


def _options(links: list[BaseException]) -> list[str]:
    """Options of the parsers that an error went through."""
    strings = [string for link in links for string in getattr(link, "options", ())]
    return [string for string in strings if string.startswith("--") and not string.endswith((".help", "+"))]


def _closest_class(path: str, homes: Sequence[str]) -> str:
    classes: dict[str, str] = {}
    for home in homes:
        for name in importlib.import_module(home).__all__:
            classes.setdefault(name, f"{home}.{name}")
    place, _, last = path.rpartition(".")
    near = difflib.get_close_matches(last, classes, 3, 0.7)
    if near:
        return f"did you mean {' or '.join(classes[name] for name in near)}?"
    if place in homes:
        there = [name for name in classes if name[0].isupper() and classes[name] == f"{place}.{name}"]
        return f"there are {', '.join(there)}, and import paths of your own"
    return "give an import path such as lidar_lightning.LiDARModule"


def _parameters(path: str) -> list[str]:
    """Names of the arguments of a class or function, those of its `**settings` included."""
    home, _, name = path.rpartition(".")
    try:
        owner: Any = importlib.import_module(home)
        called = getattr(owner, name)
    except ImportError:
        home, _, owner_name = home.rpartition(".")
        called = getattr(getattr(importlib.import_module(home), owner_name), name)
    parser = SettingsParser(exit_on_error=False)
    add = parser.add_class_arguments if inspect.isclass(called) else parser.add_function_arguments
    return add(called, fail_untyped=False)


def _shorten(text: str) -> str:
    """One line, of which the middle is left out if it is too long: the cause stands first and the remedy last."""
    line = " ".join(text.split())
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 250]} ... {line[-240:]}"
