"""A fresh environment with a third party's package installed in it by pip."""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path


def run(*command: str | Path, cwd: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=environment, capture_output=True, text=True, check=False, timeout=240
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def python_with(package: Path, folder: Path) -> Path:
    """Return the interpreter of a fresh environment: everything installed here behind it, the package in it."""
    run(sys.executable, "-m", "venv", folder / "venv", cwd=folder)
    python = folder / "venv/bin/python"
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip())
    # addsitedir, since it also reads the .pth files there: emstore itself may be installed as editable.
    (site / "libraries.pth").write_text(f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n")
    source = shutil.copytree(package, folder / "source", ignore=shutil.ignore_patterns("__pycache__"))
    quiet = ("--quiet", "--disable-pip-version-check", "--no-index", "--no-deps", "--no-build-isolation")
    run(python, "-m", "pip", "install", *quiet, source, cwd=folder)
    return python
