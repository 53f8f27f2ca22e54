"""Names of repositories on the Hugging Face hub, of which one may mean a certain revision."""

import os
from pathlib import Path


def at_revision(name: str) -> tuple[str, str | None]:
    """A repository and its revision (branch, tag or commit), from OWNER/REPOSITORY@REVISION; None is its newest.

    A path that exists is left as it is, but for ~, which is the home folder.
    """
    name = os.path.expanduser(name)
    if "@" not in name or Path(name).exists():
        return name, None
    repository, _, revision = name.partition("@")
    return repository, revision
