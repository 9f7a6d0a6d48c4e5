"""Build the book: run every notebook, then make the pages.

Called by ``make book``. What a notebook shows depends on more than its own
cells: on the module, on the chapters before it, and on all settings: the
size of the run, the table and what is in it, the source of pixels and its
address. Outputs and data therefore stand under a key made of all of these,
and are made anew when it changes. Prose may change freely.

The pages are made beside the old ones and take their place when the build
succeeds, so a failed build leaves the last good book as it was.
"""

from __future__ import annotations

import atexit
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import yaml

from geotree import files

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "_build"
FIRST_PAGE = "book/intro.html"
_COLOR = re.compile(r"\x1b\[[\d;]*m")
_PROBLEM = re.compile(r": (WARNING|ERROR|CRITICAL): ")
_STARTED = re.compile(r"([\w.-]+)\.(?:ipynb|md): Executing notebook using")
_FINISHED = re.compile(r"([\w.-]+)\.(?:ipynb|md): Executed notebook in "
                       r"([\d.]+) seconds")
_CODE = re.compile(r"^```\{code-cell\}.*?^```", re.MULTILINE | re.DOTALL)


# Where data lie: no page depends on it.
_NO_MATTER = {"GEOTREE_DATA", "GEOTREE_CACHE"}


class Job(NamedTuple):
    """One book: its table, its size of run, and the folders it owns."""

    table: Path | None
    run: str = "sample"
    origin: str = ""  # route to GBIF and source of pixels, if not the planet

    @property
    def name(self) -> str:
        """What tells this book from others: 'planet', a table's stem, …"""
        name = f"table-{self.table.stem}" if self.table else "planet"
        run = "" if self.run == "sample" else self.run
        return "-".join(filter(None, (name, self.origin, run)))

    @property
    def html(self) -> Path:
        """Where the pages go: the planet's sample run is *the* book."""
        name = self.name.removeprefix("planet")
        return BUILD / f"html{name and '-'}{name.strip('-')}"

    @property
    def work(self) -> Path:
        """Key, executed notebooks, times and pages in the making."""
        return BUILD / "making" / self.name


def job_of(environment: Mapping[str, str]) -> Job:
    """The book that an environment asks for."""
    source = environment.get("GEOTREE_SOURCE", "")
    return Job(table_from(environment),
               environment.get("GEOTREE_RUN") or "sample",
               "-".join(filter(None, (
                   environment.get("GEOTREE_ROUTE", ""),
                   "" if source == "planet" else source))))


def settings(job: Job, environment: Mapping[str, str]) -> dict[str, str]:
    """What the chapters see of GEOTREE_*, but for what does not matter."""
    given = environment | {"GEOTREE_RUN": job.run,
                           "GEOTREE_TABLE": str(job.table or "")}
    return {name: value for name, value in given.items() if value
            and name.startswith("GEOTREE_") and name not in _NO_MATTER}


def current(environment: Mapping[str, str]) -> Job | None:
    """The book of these settings, if it was built from what stands here."""
    job = job_of(environment)
    done = job.work / "done"
    fits = done.exists() and (job.html / FIRST_PAGE).exists() and (
        done.read_text("utf-8") == key(ROOT, settings(job, environment)))
    return job if fits else None


def main() -> int:
    """Build; return the exit status."""
    job = job_of(os.environ)
    job.work.mkdir(parents=True, exist_ok=True)
    try:
        with files.lock(job.work / "build"):
            return build(job)
    except files.BusyError:
        print(f"Another build of the book '{job.name}' is running; wait for "
              f"it, or end it.", file=sys.stderr)
        return 1


def build(job: Job) -> int:
    """Run what must run, make the pages, say how long it took."""
    started = time.perf_counter()
    given = settings(job, os.environ)
    beside = int(os.environ.get("PROCESSES", 2))  # pages that run at once
    environment = {
        "OMP_NUM_THREADS": str(max((os.cpu_count() or 1) // beside, 1))} | {
        name: value for name, value in os.environ.items()
        if not name.startswith("GEOTREE_")} | given | {
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "GEOTREE_DATA": str(ROOT / "data" / "book"),
        "NO_GCE_CHECK": "true", "JUPYTER_PREFER_ENV_PATH": "1",
        "PYDEVD_DISABLE_FILE_VALIDATION": "1"}
    now = key(ROOT, given)
    forget_stale(job, now, data_folder(environment))
    pages = job.work / "pages"
    shutil.rmtree(pages, ignore_errors=True)
    status, seconds, problems = stream(command(job, pages), environment)
    times = job.work / "times.json"
    seconds = (json.loads(times.read_text("utf-8")) | seconds
               if times.exists() else seconds)
    times.write_text(json.dumps(seconds), "utf-8")
    report(seconds, time.perf_counter() - started)
    made = pages / "_build" / "html"
    if status or not (made / FIRST_PAGE).exists():
        print("", *problems, "The book was NOT built: a notebook failed or "
              "a page has a warning, see above.", sep="\n", file=sys.stderr)
        return status or 1
    shutil.rmtree(job.html, ignore_errors=True)
    made.replace(job.html)
    shutil.rmtree(pages)
    (job.work / "done").write_text(now, "utf-8")
    print(f"\nThe book: {job.html / FIRST_PAGE}")
    return 0


def table_from(environment: Mapping[str, str]) -> Path | None:
    """The table of ``make book TABLE=…``, or else ``GEOTREE_TABLE``."""
    name = environment.get("TABLE") or environment.get("GEOTREE_TABLE")
    if not name:
        return None
    path = Path(name).expanduser().resolve()
    if not path.is_file():
        sys.exit(f"TABLE is '{name}', and there is no such file. Give the "
                 "path of a CSV table of the release.")
    return path


def key(root: Path, given: Mapping[str, str]) -> str:
    """A hash of all that outputs and data depend on; prose is left out."""
    parts: dict = {name: contents(value) for name, value in given.items()}
    parts["lock"] = (root / "requirements.lock").read_bytes()
    for path in sorted((root / "geotree").rglob("*")):
        if path.suffix in (".py", ".csv", ".json", ".js", ".css"):
            parts[path.relative_to(root).as_posix()] = path.read_bytes()
    for path in sorted((root / "results").glob("*")):
        parts[f"results/{path.name}"] = path.read_bytes()
    for path in sorted((root / "notebooks").glob("*.ipynb")):
        cells = json.loads(path.read_text("utf-8"))["cells"]
        parts[path.name] = ["".join(cell["source"]) for cell in cells
                            if cell["cell_type"] == "code"]
    for path in sorted((root / "book").glob("*.md")):
        parts[path.name] = _CODE.findall(path.read_text("utf-8"))
    return files.fingerprint(parts)


def contents(value: str):
    """What a setting stands for: what is in a file, or else its text."""
    path = Path(value)
    try:
        if path.is_file():
            return files.sha256(path)
        if path.is_dir():
            return [f"{one.relative_to(path)} {one.stat().st_size}"
                    f" {one.stat().st_mtime_ns}"
                    for one in sorted(path.rglob("*")) if one.is_file()]
    except OSError:  # a text too long for a path
        pass
    return value


def data_folder(environment: dict) -> Path:
    """Where the chain keeps the files of this run."""
    where = "from geotree import chain; print(chain.folder())"
    answer = subprocess.run([sys.executable, "-c", where], cwd=ROOT,
                            env=environment, text=True, check=True,
                            stdout=subprocess.PIPE)
    return Path(answer.stdout.strip())


def forget_stale(job: Job, now: str, data: Path) -> bool:
    """Remove outputs and data of another key; say whether there were any.

    Data of a full run or of a service cost days or a quota, so they are
    never removed here: what was made from other things is made again by
    the chain itself.
    """
    path = job.work / "key"
    if path.exists() and path.read_text("utf-8") == now:
        return False
    for name in ("key", "done", "times.json"):
        (job.work / name).unlink(missing_ok=True)
    shutil.rmtree(job.work / "executed", ignore_errors=True)
    if job.run == "sample" and not job.origin:
        shutil.rmtree(data, ignore_errors=True)
    path.write_text(now, "utf-8")
    return True


def command(job: Job, pages: Path) -> list[str]:
    """The call of jupyter-book, with paths that fit this job."""
    config = yaml.safe_load((ROOT / "_config.yml").read_text("utf-8"))
    config["execute"]["cache"] = str(job.work / "executed")
    extensions = config["sphinx"]["local_extensions"]
    for name, place in extensions.items():
        extensions[name] = str(ROOT / place)
    path = job.work / "config.yml"
    path.write_text(yaml.safe_dump(config, allow_unicode=True), "utf-8")
    program = Path(sys.executable).with_name("jupyter-book")
    return [str(program), "build", str(ROOT), "--config", str(path),
            "--path-output", str(pages), "--all", "-W", "--keep-going"]


def stream(call: list[str], environment: dict) -> tuple[int, dict, list]:
    """Run jupyter-book; its status, seconds by notebook, and problems.

    A failed cell's traceback is shown once, not as often as it is handed on,
    and jupyter-book's last words not at all: the pages will move.
    """
    seconds, problems, running, shown = {}, [], set(), True
    process = subprocess.Popen(call, cwd=ROOT, env=environment, text=True,
                               encoding="utf-8", errors="replace",
                               stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT)
    atexit.register(process.kill)  # its kernels see that and end, too
    for line in process.stdout:
        plain = _COLOR.sub("", line)
        shown = shown and "Finished generating HTML" not in plain
        if shown:
            print(plain, end="", flush=True)
        if _PROBLEM.search(plain):
            problems.append(plain.rstrip())
        shown = shown and "execute.base.ExecutionError: " not in plain
        if found := _STARTED.search(plain):
            running.add(found[1])
        if found := _FINISHED.search(plain):
            seconds[found[1]] = float(found[2])
    problems += [f"The page '{name}' did not finish."
                 for name in sorted(running - set(seconds))]
    return process.wait(), seconds, problems


def report(seconds: dict[str, float], total: float) -> None:
    """Print how long each notebook took when it last ran."""
    print(f"\n{'notebook':<20} {'seconds':>9}")
    for name, value in sorted(seconds.items()):
        print(f"{name:<20} {value:>9.1f}")
    print(f"{'all notebooks':<20} {sum(seconds.values()):>9.1f}")
    print(f"{'this build':<20} {total:>9.1f}")


if __name__ == "__main__":
    sys.exit(main())
