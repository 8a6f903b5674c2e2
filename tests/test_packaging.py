"""What ``pip install .`` brings along: every module, the templates, the shipped models, the command."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def test_the_wheel_holds_every_file_of_the_package(tmp_path: Path) -> None:
    source = tmp_path / "source"
    ignore = shutil.ignore_patterns("__pycache__", ".*")
    shutil.copytree(ROOT / "molvae", source / "molvae", ignore=ignore)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    done = subprocess.run([*pip, "-w", tmp_path, source], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(next(tmp_path.glob("molvae-*.whl"))) as wheel:
        packed = {name for name in wheel.namelist() if name.startswith("molvae/")}
        entry_points = next(name for name in wheel.namelist() if name.endswith("entry_points.txt"))
        assert "molvae = molvae.cli.main:main" in wheel.read(entry_points).decode()
    assert packed == {str(path.relative_to(source)) for path in (source / "molvae").rglob("*") if path.is_file()}
