"""Members of a tar: the same as ``tarfile`` finds, and no broken one."""

import io
import tarfile

import pytest

from geotree.release.tar_members import members

NAMES = ["a.txt", "folder/b.json", "ä/ö.npy", "x" * 99 + ".pth",
         "deep/" * 60 + "end.bin"]


def tar_of(names, form, mtime=0, kind=tarfile.REGTYPE):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as tar:
        for number, name in enumerate(names):
            member = tarfile.TarInfo(name)
            member.size = 0 if kind != tarfile.REGTYPE else 300 * number
            member.mtime, member.type, member.linkname = mtime, kind, "a.txt"
            tar.addfile(member, io.BytesIO(bytes([number]) * member.size))
    return buffer


def found(buffer):
    buffer.seek(0)
    return list(members(buffer))


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("mtime", [0, 1.5])  # 1.5: an extended header each
def test_same_as_tarfile(form, mtime):
    if form == tarfile.GNU_FORMAT:
        mtime = int(mtime)
    buffer = tar_of(NAMES, form, mtime)
    buffer.seek(0)
    with tarfile.open(fileobj=buffer) as tar:
        expected = [(m.name, "file", m.size, tar.extractfile(m).read())
                    for m in tar]
    assert [tuple(member[:4]) for member in found(buffer)] == expected
    assert len(expected) == len(NAMES)


@pytest.mark.parametrize(("kind", "expected"), [
    (tarfile.DIRTYPE, "folder"), (tarfile.SYMTYPE, "other"),
    (tarfile.LNKTYPE, "other"), (tarfile.CHRTYPE, "other"),
    (tarfile.FIFOTYPE, "other")])
def test_what_is_no_file_is_said_to_be_none(kind, expected):
    member, = found(tar_of(["a"], tarfile.PAX_FORMAT, kind=kind))
    assert member.kind == expected


def test_an_empty_tar_has_no_members():
    assert found(tar_of([], tarfile.PAX_FORMAT)) == []


@pytest.mark.parametrize("length", [0, 100, 512, 700, 1536])
def test_a_cut_tar_is_an_error(length):
    data = tar_of(NAMES, tarfile.PAX_FORMAT).getvalue()[:length]
    with pytest.raises(tarfile.ReadError):
        found(io.BytesIO(data))


def test_every_changed_byte_of_a_header_is_noticed():
    data = tar_of(["a.txt"], tarfile.PAX_FORMAT).getvalue()
    for place in range(512):
        other = bytearray(data)
        other[place] ^= 0x15
        with pytest.raises(tarfile.ReadError):
            found(io.BytesIO(bytes(other)))


@pytest.mark.parametrize(("size", "form", "error"), [
    (10 << 30, tarfile.GNU_FORMAT, "over 8 GB"),
    (1 << 32, tarfile.USTAR_FORMAT, "cut off at byte 1,5")])
def test_large_members_go_nowhere(size, form, error):
    member = tarfile.TarInfo("large")
    member.size = size
    data = member.tobuf(form) + bytes(1024)
    with pytest.raises(tarfile.ReadError, match=error):
        next(members(io.BytesIO(data)))


@pytest.mark.parametrize("body", [b"7 path", b"99 path=a\n", b"x path=a\n"])
def test_a_broken_extended_header_is_an_error(body):
    member = tarfile.TarInfo("header")
    member.type, member.size = tarfile.XHDTYPE, len(body)
    data = member.tobuf(tarfile.USTAR_FORMAT) + body.ljust(512, b"\0")
    with pytest.raises(tarfile.ReadError):
        found(io.BytesIO(data + bytes(1024)))


def test_a_giant_extended_header_is_not_read():
    member = tarfile.TarInfo("header")
    member.type, member.size = tarfile.XHDTYPE, 1 << 32
    data = member.tobuf(tarfile.USTAR_FORMAT)
    with pytest.raises(tarfile.ReadError, match="header of"):
        found(io.BytesIO(data + bytes(4096)))
