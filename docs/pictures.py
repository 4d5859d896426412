"""`make pictures`: those of the README, made by the commands that they show.

The first screen of the report of `make reproduce`, by Chromium, and what a fit prints.
"""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console

HERE = Path(__file__).parent
PICTURES = HERE / "pictures"
REPORT = HERE.parent / "runs" / "reproduce" / "quick" / "report" / "report.html"
FIT = ["fit", "--config", "modality_dropout_mosi", "--data.synthetic", "true", "--trainer.max_epochs", "5"]
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def terminal() -> None:
    with tempfile.TemporaryDirectory() as folder:
        program = [sys.executable, "-m", "mer_lightning.cli", *FIT]
        done = subprocess.run(program, cwd=folder, capture_output=True, text=True, check=True)
    console = Console(record=True, width=100, file=io.StringIO())
    console.print(f"$ mer-lightning {' '.join(FIT)}\n{done.stdout.rstrip()}", highlight=False, markup=False)
    svg = console.export_svg(title="mer-lightning")
    without_fonts = re.sub(r"@font-face \{.*?\}", "", svg, flags=re.DOTALL)  # it would fetch them from elsewhere
    (PICTURES / "terminal.svg").write_text(without_fonts, encoding="utf-8")


def report() -> None:
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None or not REPORT.is_file():
        sys.exit("the picture of the report needs Chromium, and a report: make reproduce")
    size = ["--window-size=1120,1080", "--force-device-scale-factor=1.25", "--hide-scrollbars"]
    shot = f"--screenshot={PICTURES / 'report.png'}"
    subprocess.run(
        [browser, "--headless", "--no-sandbox", *size, shot, REPORT.as_uri()], check=True, capture_output=True
    )


if __name__ == "__main__":
    PICTURES.mkdir(exist_ok=True)
    terminal()
    report()
