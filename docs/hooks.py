"""Pages of the site that lie outside docs/: the measured tables, the card of a model, contributing and changelog."""

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
OUTSIDE = (
    "benchmarks/*.md",
    "benchmarks/*.png",
    "lidar_lightning/assets/*/README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
)


def on_files(files: Files, config: Any) -> Files:
    """Adds them under their paths in the repository."""
    for pattern in OUTSIDE:
        for path in sorted(ROOT.glob(pattern)):
            name = path.relative_to(ROOT).as_posix()
            files.append(File.generated(config, name.replace("README.md", "card.md"), abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Links to them, which lead out of docs/ in the repository, lead within the site."""
    if page.file.src_uri.startswith(("benchmarks/", "lidar_lightning/", "CONTRIBUTING", "CHANGELOG")):
        return re.sub(r"\]\(((?:\.\./)*)docs/", r"](\1", markdown)
    depth = page.file.src_uri.count("/")
    out, inside = "../" * (depth + 1), "../" * depth
    return markdown.replace(f"]({out}", f"]({inside}").replace("/README.md)", "/card.md)")
