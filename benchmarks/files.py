"""Stages that are files: bytes, reading, start-up, writing, converting."""

from __future__ import annotations

import io
import os
import statistics
import time
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np

from benchmarks import machine, published
from benchmarks.data import Samples, many_classes
from benchmarks.timing import Result, compare, rates
from geotree import files, pixels, shards
from geotree.planet.source import Planet
from geotree.release import conversion
from geotree.shards import index

_PASSES = 8  # over the packed shards: one is too short to be timed
_FEW = 400  # samples as GeoTIFFs: 12 small files each


def size(samples: Samples, runs: int) -> Result:
    """Bytes a sample on disk."""
    def bytes_of(data):
        return sum(file.path.stat().st_size for file in data.files)

    raw, tar = samples.batch, samples.folder / "converted.tar"
    made = published.convert(_tiffs(samples), tar)
    return Result(
        "bytes per sample", "bytes", "≤ 6.3 kB",
        ours=bytes_of(samples.packed) / len(samples.packed),
        published=tar.stat().st_size / made,
        limit=sum(part.nbytes for part in raw) / len(raw.ids),
        limit_is="the numbers alone", less_is_better=True)


def read_packed(samples: Samples, runs: int) -> Result:
    """Packed shards, shuffled, batches of 512, one process."""
    data = samples.packed
    release = samples.release_urls
    paths = [file.path for file in data.files]

    def ours():
        return sum(len(batch.ids) for epoch in range(_PASSES) for batch in
                   data.batches(512, shuffle=True, epoch=epoch))

    def limit():
        for _ in range(_PASSES):
            machine.read_whole(paths)
        return _PASSES * len(data)

    return compare("read packed shards", unit="samples/s", runs=runs,
                   goal="≥ 50 × published, ≥ 30 % of the limit", ours=ours,
                   published=lambda: drain(published.loader(release)),
                   limit=limit,
                   limit_is="plain read of the same bytes, from memory")


def read_release(samples: Samples, runs: int) -> Result:
    """Shards in the release's layout, batches of 512, one process."""
    data = samples.release
    paths = [file.path for file in data.files]

    def ours():
        return sum(len(batch.ids) for batch in data.batches(512))

    def limit():
        machine.read_whole(paths)
        return len(data)

    return compare("read release shards", unit="samples/s", runs=runs,
                   goal="≥ 3 × published", ours=ours, limit=limit,
                   published=lambda: drain(published.loader(
                       samples.release_urls, shuffle=False)),
                   limit_is="plain read of the same bytes, from memory",
                   note="ours with our index beside the tars")


def drain(batches) -> int:
    return sum(len(batch[0]) for batch in batches)


def start_up(samples: Samples, runs: int) -> Result:
    """Open shards of ten million samples."""
    total, folder = 10_000_000, samples.folder / "index-only"
    _write_index(folder, total)

    def seconds(work):
        found = []
        for _ in range(runs + 1):
            started = time.perf_counter()
            work()
            found.append(time.perf_counter() - started)
        return found[1:]

    ours = seconds(lambda: len(shards.open(folder)))
    counted = seconds(lambda: published.count(samples.release_urls))
    each = statistics.median(counted) / len(samples.release)
    return Result(
        "start-up, 10 million samples", "ms", "≤ 50 ms",
        ours=1e3 * statistics.median(ours), published=1e3 * each * total,
        less_is_better=True, runs={"ours": [1e3 * x for x in ours]},
        note=f"published: counted {len(samples.release):,} samples, "
             "scaled to 10 million")


def _write_index(folder: Path, total: int, *, pack: int = 256,
                 packs: int = 64) -> None:
    """The index of a large data set, and tars that are empty."""
    folder.mkdir(parents=True, exist_ok=True)
    length, entries, records = 1_572_864, [], []
    for number in range(-(-total // (pack * packs))):
        left = total - number * pack * packs
        counts = [min(pack, left - at) for at in range(0, min(
            left, pack * packs), pack)]
        name = f"shard-{number:06d}.tar"
        (folder / name).touch()
        entries.append({
            "name": name, "samples": sum(counts),
            "bytes": length * len(counts),
            "sha256": f"{number:064x}", "records": len(counts)})
        records += [(at * length, length, samples, at)
                    for at, samples in enumerate(counts)]
    np.save(folder / index.RECORDS, np.array(records, index.RECORD))
    (folder / index.TABLE).touch()
    index.save(folder, {
        "layout": "packed", "seed": 0, "pack": pack, "samples": total,
        "left_out": 0, "provenance": {}, "shards": entries,
        "classes": many_classes(21_001).to_dict(orient="list")})


def verify(samples: Samples, runs: int) -> Result:
    """Look for damage in a cube, as each download does before it starts."""
    store = Path(samples.cube.encoding["source"])
    paths = [path for path in store.rglob("*") if path.is_file()]

    def ours():
        assert not pixels.verify(store)
        return samples.n

    def limit():
        machine.read_whole(paths)
        return samples.n

    def again():
        with redirect_stdout(io.StringIO()):
            pixels.download(samples.table, Planet(), store, progress=False)
        return samples.n

    whole = statistics.median(rates({"again": again}, runs=runs)["again"])
    return compare(
        "verify a cube", unit="samples/s", runs=runs, ours=ours, limit=limit,
        goal="≥ 30 % of the limit",
        limit_is="plain read of the same bytes, from memory",
        note=f"a download with nothing to do: {whole:,.0f} samples/s")


def write(samples: Samples, runs: int) -> Result:
    """A cube to packed shards, against GeoTIFFs and JSON to a tar."""
    tiffs, out = _tiffs(samples), samples.folder / "written"

    def ours():
        shards.write(samples.cube, samples.table, out, progress=False)
        return samples.n

    def copy():
        data = (samples.folder / "raw.bin")
        data.write_bytes(samples.batch.images.tobytes())
        return samples.n

    return compare("write packed shards", unit="samples/s", runs=runs,
                   goal="≥ 20 × published", ours=ours, limit=copy,
                   published=lambda: published.convert(
                       tiffs, samples.folder / "converted.tar"),
                   limit_is="plain write of the pixels to the same disk")


def _tiffs(samples: Samples) -> Path:
    """A folder of GeoTIFFs and JSON, what the published converter reads."""
    tiffs = samples.folder / "tiffs"
    if not tiffs.exists():
        few = type(samples.batch)(*(part[:_FEW] for part in samples.batch))
        names = samples.packed.classes.to_dict(orient="records")
        with files.whole(tiffs) as part:
            published.write_tiffs(part, few, names)
    return tiffs


def convert(samples: Samples, runs: int) -> Result:
    """Release shards to packed shards on all cores."""
    # Four times as many: each process takes seconds to start.
    samples = Samples(samples.folder.parent, 4 * samples.n)
    paths = [file.path for file in samples.release.files]
    out = samples.folder / "repacked"

    def ours():
        conversion.convert(paths, out, progress=False,
                           workers=os.cpu_count())
        return samples.n

    def reading():
        return sum(len(batch.ids) for batch in samples.release.batches(512))

    return compare("release shards to packed", unit="samples/s", runs=runs,
                   goal="bound by reading", ours=ours, limit=reading,
                   limit_is="reading release shards in one process")
