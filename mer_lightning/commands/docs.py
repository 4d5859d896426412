"""`mer-lightning docs [PAGE]`: the pages of the documentation, as they came with this version."""

from __future__ import annotations

import argparse
from pathlib import Path

from mer_lightning import output
from mer_lightning.errors import Refusal, did_you_mean
from mer_lightning.shipped import shipped


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="mer-lightning docs", description=__doc__)
    parser.add_argument("page", nargs="?", help="its name, such as sweeps; without one, all are listed")
    return parser


def main(args: list[str]) -> int:
    given = make_parser().parse_args(args)
    pages = {path.stem: path for path in sorted(shipped("docs").rglob("*.md"))}
    if given.page is None:
        output.give(pages, lambda: _list(pages))
        return 0
    if given.page not in pages:
        remedy = did_you_mean(given.page, pages, "list them: mer-lightning docs")
        raise Refusal("mer-lightning docs", "the name of a page", f"'{given.page}'", remedy)
    text = pages[given.page].read_text(encoding="utf-8")
    output.give({"page": given.page, "text": text}, lambda: _print(text))
    return 0


def _list(pages: dict[str, Path]) -> None:
    for name, path in pages.items():
        title = path.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")
        print(f"{name:24} {title}")


def _print(text: str) -> None:
    from rich.console import Console
    from rich.markdown import Markdown

    Console().print(Markdown(text))
