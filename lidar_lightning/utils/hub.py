"""Names of repositories on the Hugging Face hub, with or without a revision."""

import os
from pathlib import Path


def at_revision(name: str) -> tuple[str, str | None]:
    """Splits OWNER/REPOSITORY@REVISION into repository and revision: a branch, tag or commit, or None for the newest.

    A path that exists is returned as it is, except that ~ stands for the home folder.
    """
    name = os.path.expanduser(name)
    if "@" not in name or Path(name).exists():
        return name, None
    repository, _, revision = name.partition("@")
    return repository, revision
