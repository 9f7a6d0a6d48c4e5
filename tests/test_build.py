"""A small book, built as the large one is: what fails is not published."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import nbclient
import nbformat
import pytest
import yaml
from jupyter_client.manager import start_new_kernel
from jupyter_client.provisioning import KernelProvisionerFactory

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def book(tmp_path):
    """A repository of a cover and one notebook, and pages built before."""
    for name in ("_config.yml", "requirements.lock"):
        shutil.copy(ROOT / name, tmp_path)
    for name in ("_ext", "assets"):
        shutil.copytree(ROOT / "book" / name, tmp_path / "book" / name)
    for name in ("build.py", "references.bib"):
        shutil.copy(ROOT / "book" / name, tmp_path / "book")
    (tmp_path / "_toc.yml").write_text(yaml.safe_dump({
        "format": "jb-book", "root": "book/intro",
        "chapters": [{"file": "notebooks/01"}]}))
    (tmp_path / "book/intro.md").write_text("# A small book\n\nIts cover.\n")
    (tmp_path / "notebooks").mkdir()
    before = tmp_path / "_build/html/book/intro.html"
    before.parent.mkdir(parents=True)
    before.write_text("the last good book")
    return tmp_path


def write(book: Path, name: str, code: str) -> None:
    """A notebook of one cell of code."""
    notebook = nbformat.v4.new_notebook(cells=[
        nbformat.v4.new_markdown_cell("# A chapter"),
        nbformat.v4.new_code_cell(code)])
    nbformat.write(notebook, book / f"notebooks/{name}.ipynb")


def run(book: Path, code: str, **settings):
    """Build with one cell of code; the process and the cover."""
    write(book, "01", code)
    done = subprocess.run(
        [sys.executable, "book/build.py"], cwd=book, text=True,
        capture_output=True, timeout=300,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | settings)
    return done, (book / "_build/html/book/intro.html").read_text("utf-8")


def test_a_failed_cell_leaves_the_last_good_book(book):
    done, cover = run(book, "1 / 0")
    assert done.returncode != 0
    assert "ZeroDivisionError" in done.stdout
    assert "The book was NOT built" in done.stderr
    assert cover == "the last good book"


def test_links_that_lead_nowhere_fail_the_build(book):
    (book / "book/intro.md").write_text(
        "# A small book\n\n[a](02) [b](#nowhere) {cite}`nobody`\n")
    done, cover = run(book, "1 + 1")
    assert done.returncode != 0
    problems = [line for line in done.stderr.splitlines()
                if "intro.md" in line]
    for target in ("'02'", "'nowhere'", '"nobody"'):
        assert any(target in line for line in problems), problems
    assert cover == "the last good book"


def test_a_page_waits_for_what_it_opens_and_for_no_more(book):
    """The chapter that makes the split goes on until one has opened it."""
    code = {
        "000": "# chain.parts()\nassert Path('split').exists()\n"
               "Path('opened').touch()",
        "00": "# chain.model()\nassert Path('model').exists()",
        "02": "# chain.splits()\nassert Path('split').exists()\n"
              "# chain.making('model')\nPath('model').touch()",
        "01": """import json, time
from geotree import chain
# chain.making('split')
Path('split').touch()
chain.folder().mkdir(parents=True, exist_ok=True)
(chain.folder() / chain.NOTES).write_text(json.dumps({'split': {}}))
end = time.monotonic() + 60
while not Path('opened').exists():
    assert time.monotonic() < end, 'nobody opened the split'
    time.sleep(0.01)"""}
    (book / "_toc.yml").write_text(yaml.safe_dump({
        "format": "jb-book", "root": "book/intro", "chapters": [
            {"file": f"notebooks/{name}"} for name in code]}))
    for name, text in code.items():
        code[name] = f"from pathlib import Path\n{text}"
        write(book, name, code[name])
    done, cover = run(book, code["01"], PROCESSES="2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Its cover." in cover


def test_a_page_that_others_wait_for_begins_beside_what_runs(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "book/_ext")
    import order
    made, long, last = set(), threading.Event(), threading.Event()

    def run(name):
        if name == "01":
            assert long.wait(30)
            made.add("occurrences")
        if name == "long":
            long.set()
        if name == "02":
            last.set()
        assert last.wait(30), f"'{name}' waits for '02', which did not begin"

    order.side_by_side(run, {
        "long": "", "01": "chain.making('occurrences')",
        "02": "chain.occurrences(), chain.making('cube')"},
        lambda: made, processes=2)


def test_other_settings_never_show_what_was_built_before(book, build,
                                                         monkeypatch):
    """Each cell runs again where any GEOTREE_* differs, and only there.

    A good book takes the place of the last, with figures, whatever backend
    the shell has.
    """
    code = ("import os, pathlib\n"
            "print('seven', 'times')\n"
            "import matplotlib.pyplot as plt\nplt.plot([1, 2]);\n"
            "pathlib.Path('runs').open('a').write('x')\n"
            "assert 'GEOTREE_STAC_URL' not in os.environ, 'no such service'")
    (book / "geotree").mkdir()
    monkeypatch.setattr(build, "ROOT", book)
    monkeypatch.setattr(build, "BUILD", book / "_build")
    runs = book / "notebooks/runs"
    assert build.current({}) is None
    for _ in range(2):
        done, cover = run(book, code, MPLBACKEND="Agg")
        assert done.returncode == 0, done.stderr
        assert "Its cover." in cover
    page = (book / "_build/html/notebooks/01.html").read_text("utf-8")
    assert "seven times" in page and 'src="../_images/' in page
    assert runs.read_text() == "x"
    assert build.current({}).html == book / "_build/html"
    other = {"GEOTREE_STAC_URL": "http://127.0.0.1:9"}
    assert build.current(other) is None
    done, cover = run(book, code, **other)
    assert done.returncode != 0 and "no such service" in done.stdout
    assert runs.read_text() == "xx" and "Its cover." in cover
    assert build.current({}) is None and build.current(other) is None


@pytest.fixture
def warm(monkeypatch):
    """The extension that forks kernels, in use."""
    monkeypatch.syspath_prepend(ROOT / "book/_ext")
    monkeypatch.setenv("MPLBACKEND",
                       "module://matplotlib_inline.backend_inline")
    import warm
    warm.setup(None)
    yield warm
    KernelProvisionerFactory.clear_instance()


def shown(*cells: str) -> list:
    """What cells of code put out in a kernel of their own."""
    notebook = nbformat.v4.new_notebook(cells=[
        nbformat.v4.new_code_cell(cell) for cell in cells])
    nbclient.execute(notebook, kernel_name="python3")
    return [cell.outputs for cell in notebook.cells]


def test_a_forked_kernel_shows_what_one_that_starts_by_itself_shows(warm):
    cells = (
        "import multiprocessing, os, sys\nimport numpy as np\nimport torch",
        "os.getcwd(), os.getpgid(0) == os.getpid(), sys.argv[3:], "
        "sys.stdin.read(), multiprocessing.get_start_method(), "
        "torch.get_num_threads()",
        "sorted(set(os.environ) - {'JPY_PARENT_PID'})",
        "with multiprocessing.Pool(1) as pool:\n"
        "    print(pool.map(abs, [-1]))",
        "import pandas as pd\npd.DataFrame({'a': [1.5]})",
        "[(name, pd.get_option(name)) for name in "
        "pd._config.config._registered_options "
        "if 'display' in name and 'encoding' not in name]",
        "import matplotlib.pyplot as plt\nplt.plot([1, 2]);",
        "import xarray as xr\nimport zarr\n"
        "print(plt.rcParams, np.get_printoptions(), xr.get_options(), "
        "torch.get_default_dtype(), zarr.config.config, sep='\\n')",
        "import tqdm.auto\ntqdm.auto.tqdm")
    first, *forked = shown("import os\nos.getppid() == "
                           f"{os.getpid()}", *cells)
    assert first[0].data["text/plain"] == "False", "not forked"
    KernelProvisionerFactory.clear_instance()
    first, *alone = shown(f"import os\nos.getppid() == {os.getpid()}", *cells)
    assert first[0].data["text/plain"] == "True"
    assert "image/png" in forked[-3][-1].data
    assert forked == alone


def test_forked_kernels_draw_other_numbers(warm):
    draws = ("import random\nrandom.random()",
             "import numpy as np\nnp.random.rand()",
             "import torch\ntorch.rand(1)")
    for one, other in zip(shown(*draws), shown(*draws), strict=True):
        assert one[0].data != other[0].data


def test_a_forked_kernel_is_interrupted_and_its_death_is_noticed(warm):
    manager, client = start_new_kernel(kernel_name="python3")
    try:
        asked = client.execute("import time\nprint('on')\ntime.sleep(60)",
                               stop_on_error=False)
        while client.get_iopub_msg(timeout=60)["msg_type"] != "stream":
            pass
        manager.interrupt_kernel()
        answer = client.get_shell_msg(timeout=30)
        assert answer["parent_header"]["msg_id"] == asked
        assert answer["content"]["ename"] == "KeyboardInterrupt"
        assert manager.is_alive()
        client.execute("import os\nos._exit(7)")
        end = time.monotonic() + 30
        while manager.is_alive():
            assert time.monotonic() < end, "nobody noticed"
            time.sleep(0.01)
        assert manager.provisioner.process.poll() == 7
    finally:
        client.stop_channels()
        if manager.is_alive():
            manager.shutdown_kernel(now=True)
    with pytest.raises(nbclient.exceptions.DeadKernelError):
        shown("import os\nos.kill(os.getpid(), 9)")


def test_where_no_fork_is_possible_a_kernel_starts_by_itself(warm,
                                                             monkeypatch):
    def full(kernel):
        raise EOFError("unexpected EOF")

    monkeypatch.setattr(warm.Kernel, "start", full)
    (answer,), = shown("import os\nos.getppid()")
    assert answer.data["text/plain"] == str(os.getpid())


def test_a_build_that_is_interrupted_leaves_no_kernel_behind(book):
    write(book, "01", "import os, pathlib, time\n"
          "pathlib.Path('new').write_text(str(os.getpid()))\n"
          "os.replace('new', 'pid')\ntime.sleep(300)")
    note, log = book / "notebooks/pid", book / "log"
    with log.open("w") as file:
        building = subprocess.Popen(
            [sys.executable, "book/build.py"], cwd=book, stdout=file,
            stderr=file, start_new_session=True,
            env=os.environ | {"PYTHONPATH": str(ROOT)})
    end = time.monotonic() + 120
    while not note.exists():
        assert building.poll() is None and time.monotonic() < end, (
            log.read_text())
        time.sleep(0.1)
    kernel = Path("/proc") / note.read_text()
    os.killpg(building.pid, signal.SIGINT)  # as Ctrl-C does
    building.wait(30)
    end = time.monotonic() + 30
    while kernel.exists():
        assert time.monotonic() < end, "the kernel goes on"
        time.sleep(0.1)
