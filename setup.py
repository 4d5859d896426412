"""What pyproject.toml cannot say: experiments and documentation lie at the top of a checkout, and inside a wheel."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class WithShippedFiles(build_py):
    def run(self):
        super().run()
        if self.editable_mode:  # a checkout has them
            return
        inside = Path(self.build_lib) / "mer_lightning" / "shipped"
        for folder, pattern in (("experiments", "*.yaml"), ("docs", "*.md")):
            for path in Path(folder).rglob(pattern):
                (inside / path).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, inside / path)


setup(cmdclass={"build_py": WithShippedFiles})
