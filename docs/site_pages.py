"""What the site has beyond the files of docs/: hooks that mkdocs.yml names.

- Pages that are made when the site is built: what each command prints with `--help`, and the API from its docstrings.
- README.md, SECURITY.md and others of the top folder as pages.
- Links that leave docs/ lead to those pages. A link to a source file becomes its text.
- Links of notebooks, which MkDocs does not look at.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

import mer_lightning
from mer_lightning.cli import COMMANDS, main
from mer_lightning.commands import data

TOP = Path(__file__).parents[1]
# {file of the top folder: page of the site}
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "CHANGELOG.md": "changelog.md",
}
SOURCES = {page: source for source, page in PAGES.items()}
LINK = re.compile(r"\[([^\]]*)\]\(([^)\s:#]+)(#[^)\s]*)?\)")  # not of another server, not within the page
FILE_LINK = re.compile(r'href="([^":#]+\.(?:md|ipynb))')  # in a page of a notebook
ROLE = re.compile(r":(?:class|func|meth):<code>~?([\w.]+)</code>")  # of a docstring, where Markdown has left it
WIDTH = "80"  # of a help text
# For notebooks, what mkdocs.yml cannot say: what a cell prints in pieces is joined, after the cell was executed.
os.environ["JUPYTER_CONFIG_PATH"] = str(Path(__file__).parent / "jupyter")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for source, page in PAGES.items():
        files.append(File.generated(config, page, abs_src_path=str(TOP / source)))
    files.append(File.generated(config, "reference/command-line.md", content=command_line()))
    files.append(File.generated(config, "reference/python-api.md", content=python_api()))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    return in_the_site(markdown, page.file.src_uri)


def on_page_content(html: str, page: Page, files: Files, **_: Any) -> str:
    if page.file.src_uri.endswith(".ipynb"):
        html = of_a_notebook(html, page.file, files)
    return ROLE.sub(lambda found: f"<code>{found[1].rpartition('.')[2]}</code>", html)


def in_the_site(markdown: str, page: str) -> str:
    """The text of a page whose links are those of the site."""
    folder = posixpath.dirname(SOURCES.get(page, f"docs/{page}"))

    def link(found: re.Match[str]) -> str:
        text, path, anchor = found[1], found[2], found[3] or ""
        target = posixpath.normpath(posixpath.join(folder, path))
        if target in PAGES:
            target = PAGES[target]
        elif target.startswith("docs/"):
            target = target.removeprefix("docs/")
        else:  # a link that leads nowhere stays, and is refused
            return text if (TOP / target).exists() else found[0]
        return f"[{text}]({posixpath.relpath(target, posixpath.dirname(page) or '.')}{anchor})"

    return LINK.sub(link, markdown)


def of_a_notebook(html: str, notebook: File, files: Files) -> str:
    """The page of a notebook whose links to files are those of the site."""

    def link(found: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join("docs", posixpath.dirname(notebook.src_uri), found[1]))
        file = files.get_file_from_path(PAGES.get(path, path.removeprefix("docs/")))
        if file is None:
            raise PluginError(f"{notebook.src_uri} links to {found[1]}, which is no page")
        return f'href="{file.url_relative_to(notebook)}'

    return FILE_LINK.sub(link, html)


def command_line() -> str:
    """A page of what every command prints with `--help`."""
    parts = ["# Command line\n", "What the program and its commands print with `--help`.\n", _block([])]
    for command in COMMANDS:
        parts += [f"## {command}\n", _block([command])]
        if command == "data":
            for each in _commands_of(data.make_parser()):
                parts += [f"### data {each}\n", _block([command, each])]
    return "\n".join(parts)


def _commands_of(parser: argparse.ArgumentParser) -> list[str]:
    (commands,) = [each for each in parser._actions if isinstance(each, argparse._SubParsersAction)]
    return list(commands.choices)


def _block(words: list[str]) -> str:
    return f"```text\n{help_of(words)}\n```\n"


def help_of(words: list[str]) -> str:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        os.environ["COLUMNS"] = WIDTH
        main([*words, "--help"])
    return printed.getvalue().strip()


def python_api() -> str:
    """A page of the public names, functions first; mkdocstrings reads their docstrings from the sources."""
    where = {**mer_lightning._WHERE, "data": "data.in_python"}  # `mer_lightning.data` is a folder, too
    parts = [
        "# Python API\n",
        "`import mer_lightning as mer`. What is used how: [Use it in Python](../how-to/python.md).\n",
    ]
    for name in sorted(mer_lightning.__all__, key=lambda each: (not each.islower(), each)):
        parts.append(f"::: mer_lightning.{where[name]}.{name}\n    options: {{heading: mer.{name}}}\n")
    return "\n".join(parts)
