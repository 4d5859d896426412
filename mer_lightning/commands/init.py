"""`mer-lightning init NAME`: a project of your own, with a method, a backbone, an experiment and their test."""

from __future__ import annotations

import argparse
import keyword
from pathlib import Path
from string import Template

from mer_lightning.errors import Refusal
from mer_lightning.trust import NEVER_WHOLE

_TEMPLATES = Path(__file__).parent / "project"
_FILES = {
    "pyproject.toml": "pyproject.toml",
    "README.md": "README.md",
    "{name}/__init__.py": "package",
    "{name}/mymethod.py": "mymethod",
    "{name}/mybackbone.py": "mybackbone",
    "experiments/mymethod_mosi.yaml": "experiment",
    "tests/test_contract.py": "test_contract",
}


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="mer-lightning init", description=__doc__)
    parser.add_argument("name", type=Path, help="folder to make; its last part is the name of the package")
    return parser


def main(args: list[str]) -> int:
    folder: Path = make_parser().parse_args(args).name
    name = folder.name
    if not name.isidentifier() or keyword.iskeyword(name) or name in NEVER_WHOLE:
        raise Refusal("init", "a name that Python can import, such as mystudy", f"'{name}'", "choose another")
    if folder.exists():
        raise Refusal(folder, "no file or folder of that name", "one", "choose another name")
    for path, template in _FILES.items():
        target = folder / path.format(name=name)
        target.parent.mkdir(parents=True, exist_ok=True)
        text = Template((_TEMPLATES / f"{template}.template").read_text(encoding="utf-8")).substitute(name=name)
        target.write_text(text, encoding="utf-8")
    print(f"{folder}: a project of your own. Next:\n")
    print(f"  cd {folder}\n  mer-lightning fit --config experiments/mymethod_mosi.yaml --data.synthetic true")
    return 0
