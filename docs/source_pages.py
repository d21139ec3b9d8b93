"""A hook of mkdocs: files outside of docs/ that pages link to become part of the site.

A link to a file such as ../client/spinn_client/stream.py leads to a page that shows it.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).parent.parent
LINK = re.compile(r"\]\((\.\./[^)#\s]+)")
ROOM = "source"
UNSEARCHED = "---\nsearch:\n  exclude: true\n---\n\n"
LANGUAGES = {".py": "python", ".json": "json", ".md": "markdown", ".toml": "toml"}


def outside(page: str, target: str) -> str | None:
    """The path, from the root of the repository, of a link's target, if that is a file outside of docs/."""
    path = posixpath.normpath(posixpath.join("docs", posixpath.dirname(page), target))
    return path if not path.startswith(("docs/", "..")) and (ROOT / path).is_file() else None


def on_files(files: Any, *, config: Any) -> Any:
    """Add a page for each file that is linked to."""
    for file in list(files.documentation_pages()):
        for target in LINK.findall(file.content_string):
            path = outside(file.src_uri, target)
            if path is not None and files.get_file_from_path(f"{ROOM}/{path}.md") is None:
                language = LANGUAGES.get(Path(path).suffix, "text")
                shown = f"{UNSEARCHED}# {path}\n\n`````{language}\n{(ROOT / path).read_text()}`````\n"
                files.append(File.generated(config, f"{ROOM}/{path}.md", content=shown))
    return files


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Any) -> str:
    """Let links lead to these pages."""
    here = page.file.src_uri
    if here.startswith(f"{ROOM}/"):
        return markdown

    def there(link: re.Match[str]) -> str:
        path = outside(here, link[1])
        if path is None:
            return link[0]
        return "](" + posixpath.relpath(f"{ROOM}/{path}.md", posixpath.dirname(here) or ".")

    return LINK.sub(there, markdown)
