"""Tensors straight from their bytes: equal, or read the careful way."""

import io
import os
import pickle
import zipfile

import numpy as np
import pytest
import torch

from geotree.release import records
from geotree.release.records import TensorReader


def saved(values) -> bytes:
    buffer = io.BytesIO()
    torch.save(torch.as_tensor(values), buffer)
    return buffer.getvalue()


def arrays(n=5, shape=(3, 2, 5, 4), dtype=np.float64):
    rng = np.random.default_rng(0)
    return [(rng.random(shape) * 1e4).astype(dtype) for _ in range(n)]


@pytest.fixture
def careful(monkeypatch):
    """Counts how often the slow way is taken."""
    calls, slow = [], records._careful
    monkeypatch.setattr(records, "_careful",
                        lambda data: calls.append(1) or slow(data))
    return calls


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int16])
def test_later_files_are_read_from_their_bytes(careful, dtype):
    reader = TensorReader()
    for values in arrays(dtype=dtype):
        found = reader.read(saved(values))
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, values)
    assert len(careful) == 1


@pytest.mark.parametrize(("shapes", "slow"), [
    (((4, 3), (40, 3)), 2), (((2, 6), (6, 2), (2, 6)), 3)])
def test_each_shape_is_a_form_even_of_one_length(careful, shapes, slow):
    reader = TensorReader()
    for shape in shapes:
        for values in arrays(2, shape=shape):
            values[1] = np.nan
            np.testing.assert_array_equal(reader.read(saved(values)), values)
    assert len(careful) == slow


def test_other_orders_of_the_axes_are_never_read_from_bytes(careful):
    reader = TensorReader()
    for values in arrays(shape=(3, 4)):
        data = saved(torch.from_numpy(values).T)
        np.testing.assert_array_equal(reader.read(data), values.T)
    assert len(careful) == 5


def test_a_part_of_a_storage_is_never_read_from_bytes():
    reader = TensorReader()
    for values in arrays(shape=(6, 4)):
        data = saved(torch.from_numpy(values)[2:4])
        np.testing.assert_array_equal(reader.read(data), values[2:4])


def test_no_changed_byte_passes(careful):
    """Each byte of a file, changed: the slow way or an error, or harmless."""
    reader = TensorReader()
    first, second = arrays(2, shape=(2, 3))
    reader.read(saved(first))
    data = saved(second)
    assert (reader.read(data) == second).all()
    for place in range(len(data)):
        other = bytearray(data)
        other[place] ^= 0x41
        before = len(careful)
        try:
            found = reader.read(bytes(other))
        except Exception:  # any refusal will do
            continue
        assert len(careful) > before or (found == second).all(), place


def test_a_wrong_checksum_is_an_error():
    reader = TensorReader()
    first, second = arrays(2)
    reader.read(saved(first))
    data = bytearray(saved(second))
    at = bytes(data).index(second.tobytes())
    data[at] ^= 1
    with pytest.raises(ValueError, match="checksum"):
        reader.read(bytes(data))


class Trap:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_a_pickle_in_a_known_frame_is_not_executed(tmp_path):
    """A file of a form seen before whose pickle was exchanged."""
    reader = TensorReader()
    for values in arrays(2):
        reader.read(saved(values))
    source, target = io.BytesIO(saved(arrays(1)[0])), io.BytesIO()
    with (zipfile.ZipFile(source) as old,
          zipfile.ZipFile(target, "w") as new):
        for name in old.namelist():
            content = old.read(name)
            if name.endswith("data.pkl"):
                content = pickle.dumps(Trap(str(tmp_path / "sprung")))
            new.writestr(name, content)
    with pytest.raises(ValueError, match="refused"):
        reader.read(target.getvalue())
    assert not (tmp_path / "sprung").exists()


def test_a_bomb_is_refused_before_it_unpacks():
    source, target = io.BytesIO(saved(arrays(1)[0])), io.BytesIO()
    with (zipfile.ZipFile(source) as old,
          zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as new):
        for name in old.namelist():
            new.writestr(name, old.read(name))
        new.writestr("archive/data/1", bytes(50_000_000))
    with pytest.raises(ValueError, match="is compressed"):
        TensorReader().read(target.getvalue())
