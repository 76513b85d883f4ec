"""Hooks of mkdocs: the pages that are not in docs/, and the links between all pages.

README.md is the first page of the site. It and the other pages of the repository are in the site as they are;
so their links, which hold in the repository, are changed to those of the site.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files
from reference_pages import PAGES as GENERATED

ROOT = Path(__file__).parents[1]
FROM_REPOSITORY = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "CHANGELOG.md": "changelog.md",
    "CITATION.cff": "CITATION.cff",
    "LICENSE": "LICENSE",
    "benchmarks/README.md": "benchmarks.md",
    "examples/README.md": "examples.md",
    "lrfind/datasets/MNIST_MINI.md": "mnist_mini.md",
}
"""The files of the repository that the site has, and their names there."""


def on_files(files: Files, config: Any) -> Files:
    """Add the pages of the repository, and those that are generated from the code."""
    for path, name in FROM_REPOSITORY.items():
        files.append(File.generated(config, name, content=(ROOT / path).read_text(encoding="utf-8")))
    for name, write in GENERATED.items():
        files.append(File.generated(config, name, content=write()))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Change the links of a page that lead to other files of the repository."""
    sources = {name: path for path, name in FROM_REPOSITORY.items()}
    folder = posixpath.dirname(sources.get(page.file.src_uri, f"docs/{page.file.src_uri}"))

    def changed(match: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join(folder, match[2]))
        return f"{match[1]}{FROM_REPOSITORY.get(path, path.removeprefix('docs/'))}"

    return re.sub(r'(\]\(|<img src=")(?![a-z]+:)([^)#\s"]+)', changed, markdown)
