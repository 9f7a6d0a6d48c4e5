"""Models, loader and chapter 09 with the oldest and the newest versions.

``python .ci/floors.py oldest`` installs the oldest version of each library
that ``pyproject.toml`` admits beside the environment that runs this, and
runs tests and chapter with them; ``newest`` the newest. PyTorch is that of
the environment: its wheel is too large, and too bound to the machine, to be
had in every version.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tempfile
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TESTS = ("release_model", "release_dataset", "release_scripts", "hub",
         "clip", "selections", "shard_conversion")
RESOLUTION = {"oldest": "lowest-direct", "newest": "highest"}


def needs() -> list[str]:
    """What the core and the release ask for, without PyTorch."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))[
        "project"]
    lines = (project["dependencies"]
             + project["optional-dependencies"]["release"])
    return [line for line in lines if not line.startswith("torch")]


def make(which: str) -> Path:
    """The Python of an environment with these versions; made anew."""
    folder = ROOT / "_build/floors" / which
    venv.create(folder, clear=True, with_pip=True)
    python = folder / "bin/python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", "uv"],
                   check=True)
    subprocess.run(
        [python, "-m", "uv", "pip", "install", "--quiet", "--python", python,
         "--resolution", RESOLUTION[which], *needs()], check=True)
    # All else is looked for where this runs, after what was installed here.
    site = subprocess.run(
        [python, "-c", "import sysconfig; "
         "print(sysconfig.get_path('purelib'))"], check=True, text=True,
        capture_output=True).stdout.strip()
    Path(site, "beside.pth").write_text(sysconfig.get_path("purelib"))
    return python


def main(which: str) -> int:
    """Make the environment, say what is in it, run tests and chapter."""
    python = make(which)
    env = os.environ | {"PYTHONPATH": str(ROOT), "MPLBACKEND": "Agg"}
    names = [line.split(">")[0] for line in needs()] + ["torch"]
    subprocess.run(
        [python, "-c", "from importlib.metadata import version\n"
         f"print(*(f'{{x}} {{version(x)}}' for x in {names}), sep=', ')"],
        check=True)
    files = [path for name in TESTS
             if (path := ROOT / f"tests/test_{name}.py").exists()]
    failed = subprocess.run([python, "-m", "pytest", "-q", *files], cwd=ROOT,
                            env=env).returncode
    with tempfile.TemporaryDirectory() as folder:
        chapter = ROOT / "notebooks/09-release.py"
        failed |= subprocess.run(
            [python, chapter], cwd=folder, stdout=subprocess.DEVNULL,
            env=env | {"GEOTREE_DATA": f"{folder}/data"}).returncode
    print(f"{which}: {'FAILED' if failed else 'passed'}")
    return failed


if __name__ == "__main__":
    if sys.argv[1:] not in ([name] for name in RESOLUTION):
        sys.exit(f"usage: python .ci/floors.py {' | '.join(RESOLUTION)}")
    sys.exit(main(sys.argv[1]))
