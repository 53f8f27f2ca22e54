"""One of many names, or an error with the nearest ones."""

import difflib
from collections.abc import Iterable


def check_choice(what: str, name: str, known: Iterable[str]) -> str:
    """The name, if it is known.

    Args:
        what: the names are of, for the message.
        name: what was asked for.
        known: the names that there are.

    Raises:
        ValueError: with the known names that hold this one or are spelled like it, at most five, or with all names.
    """
    names = sorted(known)
    if name in names:
        return name
    folded = {other.lower(): other for other in names}
    low = str(name).lower()
    near = [folded[other] for other in folded if low and (low in other or other in low)]
    near += [folded[other] for other in difflib.get_close_matches(low, folded, 5, 0.6)]
    shown = " or ".join(list(dict.fromkeys(near))[:5])
    raise ValueError(f"there is no {what} {name!r}: " + (f"did you mean {shown}?" if near else f"{', '.join(names)}"))
