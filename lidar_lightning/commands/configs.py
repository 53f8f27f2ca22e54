"""The configurations that ship: listed, printed, and named in place of a path.

They lie in `configs/` of the repository, and in `lidar_lightning/configs` of an installed wheel.
"""

import difflib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

PACKAGE = Path(__file__).parents[1]
FOLDER = next(folder for folder in (PACKAGE / "configs", PACKAGE.parent / "configs") if folder.is_dir())
SUFFIX = ".yaml"


def shipped() -> dict[str, Path]:
    """From each name, such as "qm9/lidar", to its file."""
    return {path.relative_to(FOLDER).with_suffix("").as_posix(): path for path in sorted(FOLDER.glob(f"*/*{SUFFIX}"))}


def find_config(name: str) -> Path:
    """The file that a path or the name of a shipped configuration stands for.

    Raises:
        ValueError: if there is neither such a file nor such a name.
    """
    if Path(name).expanduser().is_file():
        return Path(name).expanduser()
    known = shipped()
    plain = name.removeprefix("configs/").removesuffix(SUFFIX)
    if name in known:
        return known[name]
    inside = [one for one in known if one.startswith(f"{plain.rstrip('/')}/")]
    near = [plain] if plain in known else inside or difflib.get_close_matches(plain, known, 3, 0.6)
    hint = f"did you mean {' or '.join(near)}?" if near else "`lidar config` lists those that ship"
    why = "Path is not a file" if Path(name).exists() else "File does not exist"
    raise ValueError(f"no configuration {name!r}: it is neither a file nor the name of one that ships ({why}); {hint}")


def with_paths(arguments: Sequence[str]) -> Iterator[str]:
    """The arguments of a command, with the file of each configuration that -c or --config names."""
    named = False
    for argument in arguments:
        option, equals, value = argument.partition("=")
        if named:
            yield str(find_config(argument))
        elif equals and option in ("-c", "--config"):
            yield f"{option}={find_config(value)}"
        else:
            yield argument
        named = not named and argument in ("-c", "--config")


def check_command(command: str, arguments: Sequence[str]) -> None:
    """Raises ValueError if a shipped configuration is for another command, or one is given without -c."""
    known = shipped()
    if arguments and not arguments[0].startswith("-"):
        raise ValueError(f"options begin with -: give a configuration as `lidar {command} -c {arguments[0]}`")
    for option, name in zip(arguments, arguments[1:], strict=False):
        if option in ("-c", "--config") and name in known and not Path(name).exists():
            takes = described(name, known[name])[1]
            if takes and takes != {"validate": "fit"}.get(command, command):
                raise ValueError(f"{name} is a configuration of `lidar {takes}`: run `lidar {takes} -c {name}`")


def described(name: str, path: Path) -> tuple[str, str, str]:
    """A configuration's name, the command that takes it, and the first sentence of its comment."""
    text = " ".join(
        line.removeprefix("#").strip()
        for line in path.read_text(encoding="utf-8").split("\n\n")[0].splitlines()
        if line.startswith("#")
    )
    command = re.search(rf"`lidar (\w+) -c {re.escape(name)}\b", text)
    return name, command[1] if command else "", re.split(r"[.:] ", text)[0].removesuffix(".")


def config_command(name: str | None = None) -> str:
    """The text of a shipped configuration; without a name, what there is."""
    if name:
        return find_config(name).read_text(encoding="utf-8").rstrip()
    rows = [described(*item) for item in shipped().items()]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    lines = [f"  {name:<{widths[0]}}  {command:<{widths[1]}}  {text}" for name, command, text in rows]
    return "\n".join(["Shipped configurations, each with the command that takes it:", "", *lines, "", END])


END = "`lidar config NAME` prints one; `lidar config NAME > my.yaml` begins your own; `-c NAME` takes it as it is."
