"""Build the book: run every notebook, then make the pages.

Called by ``make book``. Outputs and data are kept under a key made of the
module's source, the run and the table, so that nothing stale is shown:
change a line of ``geotree/`` and every notebook runs again.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
_EXECUTED = re.compile(r"([\w./-]+)\.ipynb: Executed notebook in "
                       r"([\d.]+) seconds")


def key(root: Path, run: str, table: Path | None) -> str:
    """A hash of all that the outputs depend on, beside the notebooks."""
    digest = hashlib.sha256(run.encode())
    sources = [path for path in (root / "geotree").rglob("*")
               if path.suffix in (".py", ".csv", ".json")]
    sources += [root / "requirements.lock"]
    for path in sorted(sources):
        digest.update(path.relative_to(root).as_posix().encode())
        digest.update(path.read_bytes())
    if table:
        digest.update(table.read_bytes())
    return digest.hexdigest()[:12]


def fresh(parent: Path, name: str, stamp: str) -> Path:
    """The folder ``name-stamp``; older stamps of the name are removed."""
    for old in parent.glob(f"{name}-*"):
        if old.name != f"{name}-{stamp}":
            shutil.rmtree(old)
    folder = parent / f"{name}-{stamp}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def real_table() -> Path | None:
    """The table of ``make book TABLE=…``, if one is given."""
    name = os.environ.get("TABLE", "")
    if not name:
        return None
    path = Path(name).expanduser().resolve()
    if not path.is_file():
        sys.exit(f"TABLE is '{name}', which does not exist. Give the path "
                 "of a CSV table of the release.")
    return path


def main() -> int:
    """Build; return the exit status."""
    started = time.perf_counter()
    table, run = real_table(), os.environ.get("GEOTREE_RUN", "sample")
    name = (table.stem if table else "planet") + f"-{run}"
    stamp = key(ROOT, run, table)
    build = ROOT / "_build"
    cache = fresh(build / "executed", name, stamp)
    output = build / "real" if table else ROOT
    config = yaml.safe_load((ROOT / "_config.yml").read_text("utf-8"))
    config["execute"]["cache"] = str(cache)
    extensions = config["sphinx"]["local_extensions"]
    for extension, place in extensions.items():
        extensions[extension] = str(ROOT / place)
    config_path = build / f"_config-{name}.yml"
    config_path.write_text(yaml.safe_dump(config), "utf-8")
    environment = os.environ | {
        "GEOTREE_DATA": str(fresh(ROOT / "data", name, stamp)),
        "GEOTREE_RUN": run, "GEOTREE_TABLE": str(table or ""),
        "PYTHONWARNINGS": "default", "NO_GCE_CHECK": "true",
        "PYDEVD_DISABLE_FILE_VALIDATION": "1"}
    output.mkdir(parents=True, exist_ok=True)
    command = [str(Path(sys.executable).with_name("jupyter-book")), "build",
               str(ROOT), "--config", str(config_path),
               "--path-output", str(output),
               "--all", "-W", "--keep-going"]
    seconds = stream(command, environment)
    times = cache / "times.json"
    known = json.loads(times.read_text()) if times.exists() else {}
    known |= seconds.pop("notebooks")
    times.write_text(json.dumps(known))
    page = output / "_build" / "html" / "book" / "intro.html"
    report(known, time.perf_counter() - started)
    if seconds["status"] or not page.exists():
        print("\nThe book was not built: see the messages above.")
        return seconds["status"] or 1
    print(f"\nOpen {page}")
    return 0


def stream(command: list[str], environment: dict) -> dict:
    """Run a command, show what it says, and note how long notebooks took."""
    seconds: dict[str, float] = {}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, text=True,
                               stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT)
    for line in process.stdout:
        print(line, end="", flush=True)
        found = _EXECUTED.search(re.sub(r"\x1b\[[\d;]*m", "", line))
        if found:
            seconds[Path(found[1]).name] = float(found[2])
    return {"status": process.wait(), "notebooks": seconds}


def report(seconds: dict[str, float], total: float) -> None:
    """Print how long each notebook took when it last ran."""
    print("\nnotebook               seconds")
    for name, value in sorted(seconds.items()):
        print(f"{name:<20} {value:>9.1f}")
    print(f"{'all notebooks':<20} {sum(seconds.values()):>9.1f}")
    print(f"{'this build':<20} {total:>9.1f}")


if __name__ == "__main__":
    sys.exit(main())
