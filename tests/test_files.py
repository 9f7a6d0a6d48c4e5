"""Files: whole or not at all, one writer, known by what they hold."""

import dataclasses
import os
import signal
import subprocess
import sys
import time
from contextlib import nullcontext

import numpy as np
import pandas as pd
import pytest

from geotree import files


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "deep" / "x.txt"
    files.write(path, "one")
    with pytest.raises(RuntimeError), files.whole(path) as part:
        part.write_text("half")
        raise RuntimeError
    assert path.read_text() == "one"
    assert [one.name for one in path.parent.iterdir()] == ["x.txt"]


def test_a_folder_is_replaced_whole(tmp_path):
    for text in "ab":
        with files.whole(tmp_path / "out") as part:
            part.mkdir()
            (part / text).write_text(text)
    assert [one.name for one in (tmp_path / "out").iterdir()] == ["b"]
    assert len(list(tmp_path.iterdir())) == 1


def test_what_a_link_points_to_is_replaced(tmp_path):
    real = tmp_path / "real.txt"
    real.write_text("old")
    (tmp_path / "link.txt").symlink_to(real)
    files.write(tmp_path / "link.txt", b"new")
    assert (tmp_path / "link.txt").is_symlink()
    assert real.read_text() == "new"


def test_no_file_takes_the_place_of_a_pipe_or_device(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="a pipe or a device"):
        files.write(tmp_path / "pipe", "text")
    assert (tmp_path / "pipe").is_fifo()


def test_a_killed_writer_leaves_the_old_file(tmp_path):
    path = tmp_path / "x.txt"
    files.write(path, "old")
    program = ("import sys, time; from geotree import files\n"
               f"with files.whole({str(path)!r}) as part:\n"
               "    part.write_text('half'); print('in', flush=True)\n"
               "    time.sleep(60)")
    with subprocess.Popen([sys.executable, "-c", program], text=True,
                          stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == "in\n"
        other.send_signal(signal.SIGKILL)
    assert path.read_text() == "old"


def test_one_writer_at_a_time(tmp_path):
    program = ("import time; from geotree import files\n"
               f"with files.lock({str(tmp_path / 'x')!r}):\n"
               "    print('in', flush=True); time.sleep(60)")
    with subprocess.Popen([sys.executable, "-c", program], text=True,
                          stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == "in\n"
        with (pytest.raises(files.BusyError, match="another process"),
              files.lock(tmp_path / "x")):
            pass
        other.kill()
    with files.lock(tmp_path / "x", wait=5):  # the dead hold nothing
        pass


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with (pytest.raises(OSError, match="can be written"),
          files.lock(tmp_path / "file" / "x")):
        pass


TABLE = pd.DataFrame({"a": [1, 2, 3], "b": ["x", None, "z"]})


@pytest.mark.parametrize("other", [
    TABLE.iloc[::-1], TABLE.head(2), TABLE[["b", "a"]],
    TABLE.rename(columns={"a": "c"}), TABLE.assign(a=[1, 2, 4]),
    TABLE.assign(b=["x", "y", "z"])], ids=range(6))
def test_other_contents_have_another_fingerprint(other):
    assert files.fingerprint(other) != files.fingerprint(TABLE)


def test_equal_contents_have_one_fingerprint():
    same = TABLE.copy().set_axis([7, 8, 9])
    assert files.fingerprint(same) == files.fingerprint(TABLE)
    category = TABLE.astype({"b": "category"})
    assert files.fingerprint(category) == files.fingerprint(TABLE)
    assert files.fingerprint({"x": 1, "y": 2}) == files.fingerprint(
        {"y": 2, "x": 1})


def test_parts_do_not_run_together():
    ways = [("ab", "c"), ("a", "bc"), ("abc",), (["ab", "c"],),
            ("a", "b", "c"),
            (b"abc",), ({"ab": "c"},), (1,), ("1",), (1.5,), (None,), ("",),
            (np.array([1, 2]),), (np.array([1, 2], "u1"),), ([1, 2],)]
    assert len({files.fingerprint(*way) for way in ways}) == len(ways)


def test_settings_are_known_by_their_values():
    @dataclasses.dataclass(frozen=True)
    class Settings:
        rate: float = 0.1

    assert files.fingerprint(Settings()) == files.fingerprint(Settings(0.1))
    assert files.fingerprint(Settings()) != files.fingerprint(Settings(0.2))
    with pytest.raises(TypeError, match="function"):
        files.fingerprint(lambda: None)


def test_a_fingerprint_is_the_same_in_another_process():
    program = ("import pandas as pd; from geotree import files\n"
               "print(files.fingerprint(pd.DataFrame({'a': [1, 2, 3], "
               "'b': ['x', None, 'z']}), {'s', 't'}))")
    done = subprocess.run([sys.executable, "-c", program], text=True,
                          capture_output=True, check=True,
                          env=os.environ | {"PYTHONHASHSEED": "3"})
    assert done.stdout.strip() == files.fingerprint(TABLE, {"t", "s"})


@pytest.mark.parametrize("text", ["", "{", "[1]", "nul", "\x00", "[" * 99999])
def test_what_is_no_json_is_named(tmp_path, text):
    path = tmp_path / "card.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"card\.json.*Make it again"):
        files.read_json(path, what="card")


def test_waiting_for_a_lock_ends(tmp_path):
    with files.lock(tmp_path / "x"):
        start = time.monotonic()
        with pytest.raises(files.BusyError), files.lock(tmp_path / "x",
                                                        wait=0.2):
            pass
        assert 0.1 < time.monotonic() - start < 5


def test_a_file_never_takes_the_place_of_a_folder(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "mine").write_text("kept")
    with pytest.raises(OSError, match="it is a folder"):
        files.write(tmp_path / "a", "new")
    assert (tmp_path / "a" / "mine").read_text() == "kept"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("way", ["a", "a/b", "a/b/x.tar", "link", "a/to.tar"])
def test_what_is_read_is_not_replaced_nor_the_folder_that_holds_it(
        tmp_path, way):
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/x.tar").write_text("read")
    (tmp_path / "link").symlink_to("a/b")
    (tmp_path / "a/to.tar").symlink_to("b/x.tar")
    with pytest.raises(ValueError, match=f"/{way}' would take the place of"):
        files.apart(tmp_path / way, tmp_path / "a/b/x.tar")
    files.apart(tmp_path / "a/b/y", tmp_path / "a/b/x.tar", None)


def test_a_folder_that_holds_a_link_to_what_is_read_is_not_replaced(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "x.tar").write_text("read")
    (tmp_path / "out/x.tar").symlink_to("../x.tar")
    with pytest.raises(ValueError, match="would take the place of"):
        files.apart(tmp_path / "out", tmp_path / "out/x.tar")


@pytest.mark.parametrize(("held", "words"), [
    (["x"], "holds other files than cards .no card.json"),
    (["card.json", "x", "y"], "holds more than cards.* lost: x, y. Move"),
    (["card.json", "card-1.txt", ".DS_Store", "._card.json"], None),
    (["card.json", ".git"], "lost: .git"), ([".git"], "holds other files"),
    ([], None)])
def test_a_folder_of_other_files_or_more_is_not_replaced(tmp_path, held,
                                                         words):
    for name in held:
        (tmp_path / name).write_text("")
    with pytest.raises(ValueError, match=words) if words else nullcontext():
        files.only(tmp_path, "card.json", "card-*.txt", what="cards")
