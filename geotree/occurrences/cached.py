"""Many small questions to GBIF, none asked twice."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path

from tqdm import tqdm

from geotree.network import Pool

THREADS = 8
_BATCH = 64  # questions between two writes of the cache


def answers(questions: Iterable[tuple], ask: Callable, cache: str | Path, *,
            what: str, progress: bool = True) -> dict[tuple, dict]:
    """Answer each question, from the cache where it knows.

    Parameters
    ----------
    questions : iterable of tuple
        Arguments of ``ask``, as JSON takes them.
    cache : path
        JSON lines of question and answer; made, or gone on with.
    what : str
        Name of the progress bar.
    """
    cache = Path(cache)
    known = _read(cache)
    todo = [one for one in dict.fromkeys(questions) if one not in known]
    cache.parent.mkdir(parents=True, exist_ok=True)
    pool = Pool(THREADS)
    with tqdm(total=len(todo), desc=what, disable=not progress) as bar:
        for start in range(0, len(todo), _BATCH):
            batch = todo[start:start + _BATCH]
            calls = [pool.submit(ask, *one) for one in batch]
            found = [call.result() for call in calls]
            with open(cache, "a", encoding="utf-8") as file:
                for one, answer in zip(batch, found, strict=True):
                    # First the line's end: the last one may be torn.
                    file.write("\n" + json.dumps([*one, answer]))
            known.update(zip(batch, found, strict=True))
            bar.update(len(batch))
    return known


def _read(cache: Path) -> dict[tuple, dict]:
    known = {}
    if cache.exists():
        for line in cache.read_text("utf-8").splitlines():
            try:
                *question, answer = json.loads(line)
            except ValueError:  # a run was killed while it wrote
                continue
            known[tuple(question)] = answer
    return known
