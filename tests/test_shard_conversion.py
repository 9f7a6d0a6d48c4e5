"""Release shards to packed shards: equal samples, resumed, nothing lost."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from fake_source import FakeSource, occurrence_table
from killing import Run

from geotree import files, pixels, shards
from geotree.release import conversion
from geotree.shards import ShardError

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """Five tars of the release of 16 samples or fewer."""
    folder = tmp_path_factory.mktemp("release")
    table = occurrence_table(75)
    cube = pixels.download(table, FakeSource(), folder / "cube.zarr",
                           progress=False)
    shards.write(cube, table, folder / "indexed", layout="release", pack=16,
                 packs_per_shard=1, progress=False)
    tars = folder / "tars"
    tars.mkdir()
    for path in (folder / "indexed").glob("*.tar"):
        os.link(path, tars / path.name)
    return tars


def convert(source, out, **options):
    return conversion.convert(
        source, out, pack=8, packs_per_shard=3, progress=False, **options)


def by_id(data):
    batch = data.load()
    order = np.argsort(batch.ids)
    names = data.classes["species"].to_numpy()[batch.labels[order]]
    return batch.ids[order], batch.images[order], batch.environment[
        order], names


def same(one, other):
    for a, b in zip(by_id(one), by_id(other), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", ["tars", "indexed", "cube.zarr"])
def test_no_folder_of_other_files_is_replaced(plain, tmp_path, name):
    """Least of all that of the tars that are read."""
    folder = shutil.copytree(plain.parent / name, tmp_path / name)
    before = sorted(folder.rglob("*"))
    source = plain if name == "cube.zarr" else folder
    with pytest.raises(ValueError, match="Choose another (folder|name)"):
        convert(source, folder)
    assert sorted(folder.rglob("*")) == before


def test_the_same_samples_in_another_order(plain, tmp_path):
    packed = convert(plain, tmp_path / "out", workers=2)
    release = shards.open(plain)
    assert packed.layout == "packed"
    same(packed, release)
    assert (packed.load().ids != release.load().ids).mean() > 0.8
    packed.verify()
    assert [p.name for p in tmp_path.iterdir() if "work" in p.name] == []
    assert convert(plain, tmp_path / "again").load().ids.tolist() == (
        packed.load().ids.tolist())
    assert convert(plain, tmp_path / "other", seed=1).load().ids.tolist() != (
        packed.load().ids.tolist())


def test_a_tar_that_is_done_is_not_read_again(plain, tmp_path, monkeypatch):
    work = tmp_path / ".out.work"
    work.mkdir()
    for tar in sorted(plain.glob("*.tar"))[:3]:
        name = files.fingerprint(conversion._mark(tar), "raise")
        conversion._read_one(tar, None, work / f"{name}.parquet", "raise")
    before = {path: path.stat().st_mtime_ns for path in work.rglob("*.bin")}
    seen = {}
    finish = conversion.finish

    def look(*args, **options):
        seen.update({path: path.stat().st_mtime_ns for path in before})
        return finish(*args, **options)

    monkeypatch.setattr(conversion, "finish", look)
    same(convert(plain, tmp_path / "out"), shards.open(plain))
    assert seen == before and len(before) == 3


def test_killed_and_started_again(plain, tmp_path):
    """Killed at any moment, it ends in the same bytes."""
    whole = convert(plain, tmp_path / "whole")
    code = f"""
from geotree.release import conversion
conversion.convert({str(plain)!r}, {str(tmp_path / 'out')!r},
                   pack=8, packs_per_shard=3, workers=1)
"""
    for _ in range(20):
        process = Run(code)
        work, done = tmp_path / ".out.work", 0
        while process.is_alive():
            found = len(list(work.glob("[!.]*.parquet")))
            if found > done or found == 5:
                break
            done = max(done, found)
            time.sleep(0.005)
        if not process.is_alive():
            process.finish()
            break
        process.kill()
    out = convert(plain, tmp_path / "out")
    for one, other in zip(whole.files, out.files, strict=True):
        assert one.sha256 == other.sha256


def test_a_damaged_sample_stops_or_is_counted(plain, tmp_path):
    copies = tmp_path / "tars"
    copies.mkdir()
    for path in plain.iterdir():
        (copies / path.name).write_bytes(path.read_bytes())
    broken = sorted(copies.iterdir())[1]
    data = bytearray(broken.read_bytes())
    at = data.index(b"data.pkl") + 60
    data[at:at + 40] = bytes(40)
    broken.write_bytes(data)
    with pytest.raises(ShardError, match=broken.name):
        convert(copies, tmp_path / "out")
    packed = convert(copies, tmp_path / "out", on_error="skip")
    assert packed.left_out == 1
    assert len(packed) == len(shards.open(plain)) - 1


def test_nothing_to_convert_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        convert(tmp_path / "nowhere", tmp_path / "out")


def test_a_plain_script_needs_no_main(plain, tmp_path):
    """One process converts anywhere; several say what they need."""
    for workers in (1, 2):
        program = tmp_path / "plain.py"
        program.write_text(f"""
from geotree.release import conversion
data = conversion.convert({str(plain)!r}, {str(tmp_path / 'out')!r},
                          workers={workers}, progress=False)
print(len(data))
""")
        done = subprocess.run([sys.executable, str(program)], cwd=ROOT,
                              capture_output=True, text=True, timeout=120)
        if workers == 1:
            assert int(done.stdout) == len(shards.open(plain)), done.stderr
        else:
            assert "if __name__ == '__main__':" in done.stderr
            assert "another process" not in done.stderr
            assert not done.stdout
