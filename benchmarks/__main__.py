"""``python -m benchmarks NAME … [--json] [--save]``."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from benchmarks import (
    away,
    curve,
    files,
    growth,
    machine,
    memory,
    models,
    peers,
    reading,
    scale,
)
from benchmarks.data import Samples

RESULTS = machine.ROOT / "results"
STAGES = {
    "bytes": files.size,
    "read-packed": files.read_packed,
    "read-peers": peers.read,
    "read-release": files.read_release,
    "read-bare": scale.read_bare,
    "start-up": files.start_up,
    "first-batch": scale.first_batch,
    "parts": scale.parted,
    "random": scale.pick,
    "split": scale.divide,
    "audit": scale.audit,
    "verify": files.verify,
    "write": files.write,
    "convert": files.convert,
    "render": models.render,
    "train": models.train,
    "train-release-90": models.train_release,
    "train-release-21001": lambda s, r: models.train_release(s, r, 21_001),
    "score-release-90": models.score_release,
    "score-release-900": lambda s, r: models.score_release(s, r, 900),
    "score-compact-90": models.score_compact,
    "score-compact-900": lambda s, r: models.score_compact(s, r, 900),
    "score-21001": models.score_many,
    "rank-21001": models.rank_many,
    "places": models.find_places,
    "memory": memory.train,
    "train-away": away.train,
    "import": reading.start,
    "explore": reading.answer,
}
WITHOUT = {"import"}  # stages that no sample goes through
OTHERS = {"curve": "accuracy after the same samples, compact and release",
          "names": "cost and worth of a step with 90 names and 21,001",
          "share": "share of the optimum after up to 10⁶ samples",
          "map": "a map on a cluster, workers killed (--samples: its cells)",
          "growth": "cost of each stage at 10³ … 10⁶ samples, and the plan",
          "gpu": "everything on one GPU (--toy: on the CPU, tiny)"}


def parser() -> argparse.ArgumentParser:
    listed = [f"  {name:18} {' '.join((work.__doc__ or '').split())}"
              for name, work in STAGES.items()]
    listed += [f"  {name:18} {text}" for name, text in OTHERS.items()]
    new = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__,
        epilog="names:\n" + "\n".join(listed) + "\n  all",
        formatter_class=argparse.RawDescriptionHelpFormatter)
    new.add_argument("names", nargs="*", metavar="NAME")
    new.add_argument("--json", action="store_true",
                     help="print the rows as JSON")
    new.add_argument("--save", action="store_true",
                     help="keep them in results/, with machine and commit")
    new.add_argument("--runs", type=int, default=5,
                     help="measured turns (default: 5)")
    new.add_argument("--samples", type=int, default=16_384,
                     help="of the planet (default: 16,384)")
    new.add_argument("--sizes", type=int, nargs="+",
                     default=[1000, 10_000, 100_000, 1_000_000],
                     help="of growth")
    new.add_argument("--toy", action="store_true",
                     help="gpu: on the CPU, at a size that proves nothing "
                          "but that it works")
    new.add_argument("--folder", type=Path,
                     help="where inputs are kept (default: made anew)")
    return new


def main(arguments: list[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    if not options.names:
        parser().print_help()
        return 0
    names = [*STAGES] if "all" in options.names else options.names
    unknown = [name for name in names if name not in {*STAGES, *OTHERS}]
    if unknown:
        sys.exit(f"no benchmark {', '.join(unknown)}; there are "
                 f"{', '.join([*STAGES, *OTHERS])} and all.")
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        samples = Samples(folder, options.samples)
        for name in names:
            rows = _run(name, options, samples, folder)
            if options.save:
                _save(name, rows)
            if options.json:
                print(json.dumps(rows))
            else:
                for row in rows:
                    print(_line(row))
    return 0


def _run(name: str, options, samples: Samples, folder: Path
         ) -> list[dict]:
    if name == "gpu":
        from benchmarks import gpu

        return [result.row() for result in gpu.main(toy=options.toy,
                                                    folder=folder)]
    if name == "map":
        from benchmarks import mapping

        return mapping.measure(folder, options.samples)
    if name == "growth":
        costs = growth.measure(folder, tuple(options.sizes))
        return [*costs.to_dict("records"),
                *growth.plan(costs).to_dict("records")]
    if name == "curve":
        return curve.measure(samples).to_dict("records")
    if name == "names":
        return curve.names(samples).to_dict("records")
    if name == "share":
        return list(curve.share())
    result = STAGES[name](samples, options.runs)
    if name not in WITHOUT:
        result.note = "; ".join(filter(None, (result.note, samples.about)))
    return [result.row()]


def _line(row: dict) -> str:
    if not {"ours", "bytes"} & set(row):
        return ", ".join(value if isinstance(value, str) else
                         f"{name} {value:,.3g}"
                         for name, value in row.items() if value is not None)
    if "ours" not in row:
        return (f"{row['stage']:28} {row['samples']:>9,} samples "
                f"{row['seconds']:>9.2f} s {row['bytes'] / 1e6:>9.1f} MB")
    text = f"{row['stage']:40} {row['ours']:>12,.4g} {row['unit']:10}"
    if row["times_published"]:
        text += f" {row['times_published']:>8,.3g} × published"
    if row["share_of_limit"]:
        text += f", {row['share_of_limit']:.0%} of {row['limit_is']}"
    return f"{text}  (goal: {row['goal'] or 'none'}) {row['note']}"


def _save(name: str, rows: list[dict]) -> None:
    """One file a benchmark, written whole, with its provenance."""
    from geotree import files

    RESULTS.mkdir(exist_ok=True)
    files.write(
        RESULTS / f"benchmark-{name}.json",
        json.dumps({"machine": machine.describe(), "rows": rows}, indent=1,
                   ensure_ascii=False).encode() + b"\n")


if __name__ == "__main__":
    sys.exit(main())
