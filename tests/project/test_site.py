"""The documentation site: it builds without a warning, its links lead somewhere, and it needs nothing from elsewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import click
import pytest
from pydantic import BaseModel

import lrfind
from lrfind.catalog import COMMANDS
from lrfind.cli.main import cli
from lrfind.config import sections
from lrfind.config.experiment import Experiment

ROOT = Path(__file__).parents[2]


def build(config: Path, site: Path) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-m",
        "mkdocs",
        "build",
        "--strict",
        "--config-file",
        str(config),
        "--site-dir",
        str(site),
    ]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, capture_output=True, text=True, env=environment)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site."""
    folder = tmp_path_factory.mktemp("site")
    done = build(ROOT / "mkdocs.yml", folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


class Links(HTMLParser):
    """Gathers what a page links to, what it loads, and its anchors."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.loaded: set[str] = set()
        self.anchors: set[str] = set()
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        """Note the addresses in the attributes of a tag."""
        values = {name: value or "" for name, value in attributes}
        self.anchors |= {values["id"]} if "id" in values else set()
        if tag == "a":
            self.links.add(values.get("href", ""))
        elif values.get("rel") != "canonical":
            self.loaded |= {values[name] for name in ("src", "href") if name in values}


def pages(site: Path) -> Iterator[tuple[Path, Links]]:
    for page in sorted(site.glob("*.html")):
        if page.name != "404.html":
            yield page, Links(page)


def test_every_link_leads_to_a_page_and_a_place_in_it(site: Path) -> None:
    parsed = dict(pages(site))
    broken = []
    for page, content in parsed.items():
        for link in content.links | content.loaded:
            parts = urlsplit(link)
            if parts.scheme or not link:
                continue
            target = (page.parent / unquote(parts.path)).resolve() if parts.path not in ("", ".") else page
            target = target / "index.html" if target.is_dir() else target
            anchors = parsed[target].anchors if target in parsed else set()
            if not target.is_file() or (parts.fragment and unquote(parts.fragment) not in anchors):
                broken.append(f"{page.name}: {link}")
    assert broken == []


def test_no_page_loads_anything_from_elsewhere(site: Path) -> None:
    assert [
        f"{page.name}: {one}" for page, content in pages(site) for one in content.loaded if "//" in one
    ] == []


def test_every_page_is_in_the_site_and_is_not_empty(site: Path) -> None:
    names = {page.stem for page, _ in pages(site)}
    assert names >= {path.stem for path in (ROOT / "docs").glob("*.md")} | {
        "index",
        "commands",
        "config_keys",
        "python",
    }
    assert min(page.stat().st_size for page, _ in pages(site)) > 5000


def test_a_link_to_nowhere_fails_the_build(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/find.md").write_text("# Find\n\n[nothing](no_such_page.md)\n")
    text = (
        (ROOT / "mkdocs.yml")
        .read_text()
        .partition("\nnav:")[0]
        .replace("hooks: [scripts/site_hooks.py]\n", "")
    )
    (tmp_path / "mkdocs.yml").write_text(text)
    done = build(tmp_path / "mkdocs.yml", tmp_path / "site")
    assert done.returncode != 0
    assert "no_such_page.md" in done.stdout + done.stderr


def words(page: Path) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", page.read_text(encoding="utf-8")).split())


def test_the_reference_has_every_command_and_every_option(site: Path) -> None:
    text, top = words(site / "commands.html"), click.Context(cli)
    for name in COMMANDS:
        command = cli.get_command(top, name)
        assert command is not None
        assert f"lrfind {name} " in text
        shown = [one for one in command.params if isinstance(one, click.Option) and not one.hidden]
        assert [option for parameter in shown for option in parameter.opts if option not in text] == []


def test_the_reference_has_every_key_of_a_config_with_its_default(site: Path) -> None:
    html = (site / "config_keys.html").read_text(encoding="utf-8")
    models = [
        Experiment,
        *(one for one in vars(sections).values() if isinstance(one, type) and issubclass(one, BaseModel)),
    ]
    for model in models:
        for key, field in model.model_fields.items():
            rows = re.findall(rf"<tr>\s*<td><code>{key}</code></td>(.*?)</tr>", html, flags=re.DOTALL)
            default = field.default if isinstance(field.default, int | float | str) else None
            shown = str(default).lower() if isinstance(default, bool) else str(default)
            assert any(default is None or f"<code>{shown}</code></td>" in row for row in rows), (
                f"{model.__name__}.{key}"
            )


def test_the_reference_has_every_public_name_of_python(site: Path) -> None:
    text = words(site / "python.html")
    assert [name for name in lrfind.__all__ if f"lrfind.{name}" not in text] == []
    assert "range_test" in text
    assert "held_out_batch" in text
