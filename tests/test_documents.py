"""The Python of the documents runs or compiles, and each command and option of them is accepted by its parser.

Blocks with commands are given to bash as they stand, loops and functions included. In place of the program stands a
function that writes down its arguments; no other program can be called.

The cells of a notebook are blocks, too. `make docs` executes them; here only what can be said without that is tested.
"""

from __future__ import annotations

import ast
import importlib
import json
import os
import re
import shlex
import subprocess
import textwrap
import tomllib
from itertools import pairwise, takewhile
from pathlib import Path

import pytest

from mer_lightning.cli import COMMANDS, main
from mer_lightning.errors import Refusal
from mer_lightning.shipped import experiment_file
from tests.test_advice import NO_ADVICE, OWN, accepts_lightning, accepts_option, accepts_own, advice

TOP = Path(__file__).parents[1]
PAGES = ["README.md", "CONTRIBUTING.md", "SECURITY.md"]
PAGES += sorted(path.relative_to(TOP).as_posix() for path in (TOP / "docs").rglob("*.md"))
NOTEBOOKS = sorted(path.relative_to(TOP).as_posix() for path in (TOP / "docs/tutorials").glob("*.ipynb"))
FENCED = re.compile(r"^( *)```(\w*)\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)
INDENTED = re.compile(r"(?:^    .*\n|^\n(?=    ))+", re.MULTILINE)
OPTIONS = re.compile(r"`(--[^`]+)`")
INLINE = re.compile(r"`((?:mer-lightning|make) [^`]+)`")
SHELL = ("", "sh", "bash")
# Files, classes and folders of the reader.
STAND_INS = {
    ("--model", "my_project.mine.Mine"): "supervised",
    ("--model", "mine"): "supervised",
    ("--model.backbone", "my_project.mine.Mine"): "early",
    ("--model.backbone", "mine"): "early",
    ("--model.help", "mine"): "supervised",
    ("--model.help", "fairshare"): "supervised",
}
EVERYWHERE = {"--trust": 2, "--quiet": 1, "--json": 1}  # {option of any command: words}
RECORDING = """
record() { printf '%s\\037' "$@" >> "$RECORD"; printf '\\036' >> "$RECORD"; }
mer-lightning() { record mer-lightning "$@"; }
make() { record make "$@"; }
command_not_found_handle() {
  while (($#)); do case "$1" in mer-lightning | make) record "$@" ;; esac; shift; done
}
PATH=/nowhere
"""


def text_of(page: str) -> str:
    """A page in Markdown; code cells of a notebook become blocks."""
    text = (TOP / page).read_text()
    if not page.endswith(".ipynb"):
        return text
    parts = []
    for cell in json.loads(text)["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "code":
            magic, _, rest = source.partition("\n") if source.startswith("%%") else ("", "", source)
            python = magic in ("", "%%capture") or magic.endswith(".py")  # a file that the cell writes
            language = "python" if python else "bash" if magic == "%%bash" else "text"
            source = f"```{language}\n{rest}\n```"
        parts.append(source)
    return "\n\n".join(parts)


def blocks(page: str, languages: tuple[str, ...] = ("python",)) -> list[str]:
    found = FENCED.findall(text_of(page))
    return [textwrap.dedent(block) for _, language, block in found if language in languages]


def scripts(page: str) -> list[str]:
    """Every block and every piece of a line with commands."""
    prose = FENCED.sub("", text_of(page))
    indented = [textwrap.dedent(block) for block in INDENTED.findall(prose)]
    inline = [" ".join(command.split()) for command in INLINE.findall(prose)]
    return [each for each in [*blocks(page, SHELL), *indented, *inline] if re.search("(mer-lightning|make) ", each)]


def commands(page: str, folder: Path) -> list[list[str]]:
    """The words of the calls of the program and of make that say something which none before has said."""
    record = folder / "record"
    for number, script in enumerate(scripts(page)):
        file = folder / f"{number}.sh"
        file.write_text(RECORDING + script)
        subprocess.run(["bash", "-n", str(file)], check=True, cwd=folder)
        subprocess.run(["bash", str(file)], cwd=folder, env={**os.environ, "RECORD": str(record)}, capture_output=True)
    if not record.exists():
        return []
    calls = [call.split("\037")[:-1] for call in record.read_text().split("\036")[:-1]]
    known: set[tuple[str, ...]] = set()
    kept = []
    for call in calls:
        method = call[call.index("--model") + 1] if "--model" in call else ""
        said = {(method, *call[:2])} | {(method, *_kind(*pair)) for pair in pairwise(call)}
        if not said <= known:  # a loop says the same with other seeds
            kept.append(call)
            known |= said
    return kept


def _kind(option: str, value: str) -> tuple[str, str]:
    """Numbers are alike, and so are paths where they need not exist."""
    alike = value[:1].isdigit() or ("/" in value and option.startswith("-") and option != "--config")
    return option, "" if alike else value


def accepted(words: list[str]) -> bool:
    program, *rest = words
    if program == "make":
        rules = (TOP / "Makefile").read_text()
        return all(re.search(rf"^{target}:", rules, re.MULTILINE) for target in rest if "=" not in target)
    for option, length in EVERYWHERE.items():
        while option in rest:
            at = rest.index(option)
            rest = [*rest[:at], *rest[at + length :]]
    command, *arguments = rest
    if command not in COMMANDS:
        return command in ("--help", "--version", "--print_completion")
    if not arguments or "--help" in arguments:
        return True
    named = [value for option, value in pairwise(arguments) if option == "--config"]
    if command in ("ablate", "sweep", "reproduce"):
        named += takewhile(lambda word: not word.startswith("-"), arguments)
    for name in named:
        # FILE, of a run that the reader has, or of the reader's own project
        if not name.isupper() and not name.startswith(("runs/", "experiments/fairshare")):
            experiment_file(name)
    arguments = [STAND_INS.get(pair, pair[1]) for pair in pairwise(["", *arguments])]
    return (accepts_own if command in OWN else accepts_lightning)(command, arguments)


@pytest.mark.parametrize("page", [*PAGES, *NOTEBOOKS])
def test_the_commands_of_a_page_are_accepted(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = commands(page, tmp_path)
    monkeypatch.chdir(tmp_path)
    for words in found:
        try:
            right, why = accepted(words), ""
        except SystemExit as end:
            right, why = not end.code, ""
        except Refusal as refusal:
            right, why = False, str(refusal)
        assert right, f"{page}: {' '.join(words)}: {why or capsys.readouterr().err}"


def test_a_wrong_command_of_a_page_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "page.md"
    loop = "for b in tfn nosuch; do\n  mer-lightning fit --model.backbone $b --model supervised\ndone\n"
    page.write_text(f"```\n{loop}```\n")
    tfn, other = commands(str(page), tmp_path)
    monkeypatch.chdir(tmp_path)
    assert accepted(tfn)
    with pytest.raises(Refusal, match="nosuch"):
        accepted(other)
    assert option_accepted("--data.masks", "uniform_combinations")
    assert not option_accepted("--data.alignmnt", "")
    page.write_text("Say `make nosuch`,\n\n    srun mer-lightning data list --wrong 1 | head\n\n")
    (tmp_path / "record").unlink()
    indented, inline = commands(str(page), tmp_path)
    assert not accepted(inline)
    with pytest.raises(SystemExit):
        accepted(indented)


@pytest.mark.parametrize("page", [*PAGES, *NOTEBOOKS])
def test_the_options_of_a_page_exist(page: str) -> None:
    for span in OPTIONS.findall(FENCED.sub("", text_of(page))):
        options = advice(" ".join(span.split()))[1]
        # Some options exist only beside the class whose they are.
        right = all(option_accepted(*each) for each in options) or accepts_lightning("fit", shlex.split(span))
        assert right, f"{page}: {span}"


def option_accepted(option: str, value: str) -> bool:
    value = "" if value.isupper() or "..." in value or value.startswith("$") else STAND_INS.get((option, value), value)
    return option in NO_ADVICE or accepts_option(option, value)


@pytest.mark.parametrize("page", [*PAGES, *NOTEBOOKS])
def test_the_python_of_a_page_compiles(page: str) -> None:
    for block in blocks(page):
        compile(block, page, "exec")


def test_the_site_has_every_page() -> None:
    listed = re.findall(r"^ +- (?:\w+: )?(\S+\.(?:md|ipynb))$", (TOP / "mkdocs.yml").read_text(), re.MULTILINE)
    pages = [page for page in [*PAGES, *NOTEBOOKS] if page.startswith("docs/")]
    assert {page.removeprefix("docs/") for page in pages} <= {*listed}
    assert len(listed) == len({*listed})


@pytest.mark.parametrize("page", [*PAGES, *NOTEBOOKS])
def test_the_extras_of_a_page_exist(page: str) -> None:
    extras = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert {*re.findall(r"mer-lightning\[(\w+)\]", text_of(page))} <= {*extras}


@pytest.mark.parametrize("page", NOTEBOOKS)
def test_a_notebook_is_stored_without_what_it_printed(page: str) -> None:
    book = json.loads((TOP / page).read_text())
    code = [cell for cell in book["cells"] if cell["cell_type"] == "code"]
    assert code
    assert not any(cell["outputs"] or cell["execution_count"] for cell in code)
    assert "tempfile.TemporaryDirectory()" in "".join(code[0]["source"])  # and nothing is left in the folder


@pytest.mark.parametrize("page", NOTEBOOKS)
def test_the_links_of_a_notebook_lead_to_pages(page: str) -> None:
    links = re.findall(r"\]\(([^):#]+)", FENCED.sub("", text_of(page)))
    assert links
    for link in links:
        assert ((TOP / page).parent / link).is_file(), link


@pytest.mark.parametrize("page", NOTEBOOKS)
def test_the_names_of_a_notebook_exist(page: str) -> None:
    missing = [name for block in blocks(page) for name in names_in(ast.parse(block)) if not exists(name)]
    assert not missing


def names_in(tree: ast.Module) -> set[str]:
    """Names of this package: what is imported of it, `mer.NAME`, and attributes of runs."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("mer_lightning"):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Attribute):
            match ast.unparse(node).split("."):
                case ["mer", name]:
                    found.add(f"mer_lightning.{name}")
                case ["run" | "again" | "before" | "robust", name]:
                    found.add(f"mer_lightning.Run.{name}")
    return found


def exists(name: str) -> bool:
    """Whether a dotted path leads to something; a run has its folder from the start."""
    module, *rest = name.split(".")
    thing: object = importlib.import_module(module)
    for part in rest:
        if not hasattr(thing, part):
            try:
                thing = importlib.import_module(f"{getattr(thing, '__name__', '')}.{part}")
                continue
            except ImportError:
                return name == "mer_lightning.Run.folder"
        thing = getattr(thing, part)
    return True


def test_a_name_that_does_not_exist_is_found() -> None:
    found = names_in(
        ast.parse("from mer_lightning.contract import check_all\nmer.fitt()\nrun.plott()\nmer.fit(run.folder)")
    )
    wrong = {"mer_lightning.contract.check_all", "mer_lightning.fitt", "mer_lightning.Run.plott"}
    assert {name for name in found if not exists(name)} == wrong
    assert exists("mer_lightning.contract.check_method")


@pytest.mark.parametrize("page", ["docs/how-to/python.md"])
def test_the_blocks_of_a_page_run_one_after_the_other(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for block in blocks(page):
        exec(compile(block.replace("max_epochs=5", "max_epochs=3"), page, "exec"), names)
    assert names["run"].results.frame["condition"].nunique() == 9


def test_the_first_corpus_of_a_reader_is_imported_as_the_page_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MER_DATA", raising=False)
    page = "docs/getting-started.md"
    names: dict[str, object] = {}
    for block in blocks(page):
        exec(compile(block, page, "exec"), names)
    assert main(["data", "import", "mine.npz", "--as", "mine"]) == 0
    (shown,) = [block for block in blocks(page, ("text",)) if block.startswith("mine-utterance")]
    assert capsys.readouterr().out == shown
    assert Path("clips.npz").is_file()


def test_the_readme_is_one_screen_and_counts_right() -> None:
    text = (TOP / "README.md").read_text()
    assert len(text.splitlines()) <= 75
    from mer_lightning.backbones.base import all_backbones

    for page in ("README.md", "docs/explanation/peers.md"):
        (row,) = re.findall(r"^\| fusion models \| (\d+)", (TOP / page).read_text(), re.MULTILINE)
        assert int(row) == len(all_backbones())


def test_every_source_of_the_comparison_is_there_and_used() -> None:
    page, sources = (TOP / "docs/explanation/peers.md").read_text().split("## Sources")
    used = {*re.findall(r"\[\^(\d+)\]", page)}
    assert used == {*re.findall(r"^\[\^(\d+)\]: ", sources, re.MULTILINE)}
    assert sources.count("](https://") >= len(used)


def test_the_ten_lines_of_the_readme_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxscript")
    monkeypatch.chdir(tmp_path)
    (block,) = [each for each in blocks("README.md") if "mer.fit" in each]
    assert len(block.strip().splitlines()) <= 10
    small = block.replace("synthetic=True", "synthetic=True, samples=80").replace("max_epochs=5", "max_epochs=3")
    import numpy as np

    names: dict[str, object] = {"features": np.zeros((50, 768), np.float32)}
    exec(compile(small, "README.md", "exec"), names)
    assert names["found"]["modalities"].tolist() == ["t"]
    assert Path("model.onnx").stat().st_size > 0
