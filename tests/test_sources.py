"""The door between a source and the house, whoever asks."""

import subprocess
import sys
import time

import numpy as np
import pytest
from fake_source import FakeSource, occurrence_table

from geotree import sources
from geotree.network import DownloadError, Pool, ServiceError, redact
from geotree.sources import FAILED, NO_IMAGERY, OK, Plan
from geotree.variables import NODATA


@pytest.mark.parametrize("name", sources.names())
def test_a_source_is_found_by_its_name(name):
    assert sources.by_name(name).name == name


def test_an_unknown_name_lists_the_known():
    with pytest.raises(ValueError, match="'planet', 'earthengine', 'stac'"):
        sources.by_name("moon")


# Secrets --------------------------------------------------------------------


@pytest.mark.parametrize("text", [
    "https://me:SECRET@host.org/stac", "https://SECRET@host.org",
    "https://me:SEC@SECRET@host.org/a", "s3://KEY:SECRET@bucket/x",
    "https://h.org/a?api_key=SECRET", "/v1?a=1&sig=SECRET%2B (Caused by x)",
    "'/vsicurl/https://h.org/c.tif?se=2&sig=SECRET' is not there",
    "https://h.org/#access_token=SECRET", "https://h.org/?SECRET",
])
def test_what_may_be_secret_in_an_address_goes(text):
    assert "SECRET" not in redact(text) and len(redact(text)) > 5
    assert "SECRET" not in str(ServiceError(5, text))


def test_other_text_stays():
    for text in ("Are lat and lon swapped? Yes; a=b", "https://h.org/a/b.tif",
                 "me@host.org", "x = 5 & y = 6"):
        assert redact(text) == text
    assert redact("https://h.org/a?b=1") == "https://h.org/a?b=…"


# Threads --------------------------------------------------------------------


def test_a_pool_works_side_by_side_and_keeps_to_its_size():
    active, most = [], []

    def work(number):
        active.append(number)
        most.append(len(active))
        time.sleep(0.01)
        active.remove(number)
        if number == 7:
            raise KeyError(number)
        return number * 2

    pool = Pool(3)
    jobs = [pool.submit(work, number) for number in range(20)]
    assert isinstance(jobs[7].exception(5), KeyError)
    assert [job.result(5) for job in jobs[8:]] == list(range(16, 40, 2))
    assert max(most) == 3


def test_python_ends_though_a_call_hangs():
    code = ("import time; from geotree.network import Pool\n"
            "Pool(1).submit(time.sleep, 60)\nprint('end')")
    start = time.monotonic()
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)
    assert time.monotonic() - start < 20


# Plan, fetch, check ---------------------------------------------------------


class Changed(FakeSource):
    """A source whose answer somebody changes."""

    def __init__(self, change, **options):
        super().__init__(**options)
        self.change = change

    def fetch(self, table):
        return self.change(super().fetch(table))


def put(array, at, value):
    array = array.copy()
    array[at] = value
    return array


WRONG = [
    (lambda p: p._replace(reflectance=p.reflectance[:, :, :9]), "10 bands"),
    (lambda p: p._replace(reflectance=p.reflectance.astype(float)),
     "digital numbers"),
    (lambda p: p._replace(reflectance=p.reflectance.astype(np.int16)),
     "int16"),
    (lambda p: p._replace(reflectance=p.reflectance.astype(np.int64)),
     "int64, expected uint16"),
    (lambda p: p._replace(reflectance=np.where(
        p.reflectance == NODATA, NODATA, p.reflectance > 900
    ).astype(np.uint16)), "cut to whole numbers"),
    (lambda p: p._replace(status=p.status[:-1]), "variables, 7 statuses"),
    (lambda p: p._replace(status=p.status[:, None]), "status have shape"),
    (lambda p: p._replace(reflectance=np.repeat(p.reflectance[:1], 8, 0)),
     "very pixels of another place"),
    (tuple, "expected sources.Pixels"),
    (lambda p: p._replace(environment=p.environment[:, :26]), "27"),
    (lambda p: p._replace(environment=put(p.environment, (3, 9), np.inf)),
     "inf in row 3, bio02"),
    (lambda p: p._replace(environment=np.nan_to_num(p.environment).astype(
        int)), "float32"),
    (lambda p: p._replace(status=p.status * 0), "status"),
    (lambda p: p._replace(**{name: getattr(p, name)[::-1] for name in
                             ("reflectance", "environment", "status")}),
     "another place than row 0"),
    (lambda p: p._replace(environment=put(p.environment, (5, 1), np.nan)),
     "another place than row 5"),
    (lambda p: p._replace(reflectance=put(p.reflectance, 2, NODATA)),
     "OK without a valid pixel, row 2"),
    (lambda p: p._replace(status=put(p.status, 4, NO_IMAGERY)),
     "has pixels and no imagery, row 4"),
]


@pytest.mark.parametrize(("change", "message"), WRONG)
def test_an_answer_that_is_none_is_refused(change, message):
    with pytest.raises(ValueError, match=f"'fake'.*{message}"):
        sources.fetch(occurrence_table(8), Changed(change))


def test_an_answer_in_order_passes_and_turned_places_are_the_same():
    table = occurrence_table(40)
    found = sources.fetch(table, FakeSource())
    assert {*found.status.tolist()} == {OK, NO_IMAGERY}
    east = table.assign(decimalLongitude=table["decimalLongitude"] % 360)
    sources.check(found, east, FakeSource())


def test_failures_are_counted_and_too_many_are_an_error():
    table = occurrence_table(10)
    bad = table["gbifID"][[2, 5]].tolist()
    with pytest.warns(UserWarning, match="2 of 10 samples failed, the first "
                      f"with 'no answer for {bad[0]}'"):
        found = sources.fetch(table, FakeSource(failing=bad))
    assert (found.status == FAILED).sum() == 2
    with pytest.raises(DownloadError, match="2 of 10 samples failed"):
        sources.fetch(table, FakeSource(failing=bad), max_failed=0.1)


def test_a_plan_beyond_the_budget_fetches_nothing():
    source = FakeSource()
    source.plan = lambda table: Plan(1, 1, 1, 1.0, eecu_hours=9, budget=8)
    with pytest.raises(ValueError, match="budget is 8.0"):
        sources.fetch(occurrence_table(3), source)
    assert not source.fetched


def test_a_source_that_hangs_is_given_up():
    slow = FakeSource(seconds=30)
    start = time.monotonic()
    with pytest.raises(ServiceError, match="not answered for 0.2 s.*again"):
        sources.fetch(occurrence_table(3), slow, timeout=0.2)
    assert time.monotonic() - start < 5
