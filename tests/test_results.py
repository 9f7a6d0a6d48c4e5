"""Results are one row a number, never without what made them."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from studies import results

SCORES = pd.DataFrame({
    "rank": ["species", "genus"], "metric": "top1", "value": [0.5, 0.7],
    "low": [0.4, 0.6], "high": [0.6, 0.8], "n": 100})


def rows(change=0.0, **names):
    scores = SCORES.assign(**{name: SCORES[name] + change
                              for name in ("value", "low", "high")})
    given = {"data": "toy", "task": "seen species", "split": "1° blocks",
             "model": "nearest", "seed": 0, "data_hash": "abc",
             "settings": {"k": 25}} | names
    return results.rows(scores, **given)


def command(*words, check=True):
    return subprocess.run(
        [sys.executable, "-m", "studies", *words], cwd=results.folder().parent,
        capture_output=True, text=True, check=check)


def test_every_row_says_what_made_it():
    found = rows(excluded=7)
    assert list(found.columns) == results.COLUMNS
    assert found["settings"].tolist() == ['{"k": 25}'] * 2
    assert (found["excluded"] == 7).all() and (found["group"] == "all").all()
    assert found["commit"].str.len().min() >= 6
    assert "cores" in found["device"].iloc[0]


def test_written_results_read_back(tmp_path):
    both = pd.concat([rows(), rows(model="country, by year", seed=-1)])
    path = results.write(both, tmp_path / "new" / "a.csv")
    found = results.read(path)
    pd.testing.assert_frame_equal(
        found, both.sort_values(results.KEY).reset_index(drop=True),
        check_dtype=False)
    again = results.write(found.sample(frac=1, random_state=1),
                          tmp_path / "b.csv")
    assert again.read_bytes() == path.read_bytes()


@pytest.mark.parametrize(("change", "message"), [
    (lambda x: pd.concat([x, x]), "2 of 4 results have a name that is taken"),
    (lambda x: x.assign(low=x["high"] + 0.1), "2 intervals end before"),
    (lambda x: x.assign(value=np.nan), "2 values are missing"),
    (lambda x: x.drop(columns="commit"), "results lacks the columns commit")])
def test_what_is_no_result_is_refused(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        results.write(change(rows()), tmp_path / "a.csv")
    assert not list(tmp_path.iterdir())


def test_tasks_have_names():
    with pytest.raises(ValueError, match="task is 'zero-shot', expected"):
        rows(task="zero-shot")
    with pytest.raises(FileNotFoundError, match="the book keeps"):
        results.read("nothing-of-this-name")


def test_two_files_side_by_side(tmp_path):
    one = results.write(pd.concat([rows(), rows(model="only here")]),
                        tmp_path / "one.csv")
    other = results.write(rows(0.3), tmp_path / "other.csv")
    table = results.compare(results.read(one), results.read(other))
    np.testing.assert_allclose(table["change"], 0.3)
    assert table["apart"].all() and len(table) == 2
    assert table.attrs == {"only_first": 2, "only_second": 0,
                           "same_data": True}
    near = results.compare(results.read(one), rows(0.1, data_hash="other"))
    assert not near["apart"].any() and not near.attrs["same_data"]
    told = command("compare", one, other).stdout
    assert "2 shared, 2 with intervals apart" in told
    assert "only in the first 2" in told and "genus" in told


def test_the_command_explains_itself_and_its_errors(tmp_path):
    told = command("--help").stdout
    assert all(name in told for name in ("compare", "studies", "ablations"))
    assert "results/planet.csv" in command("ablations", "--help").stdout
    for words, message in {
            ("compare", "no-such", "planet"): "the book keeps",
            ("studies", str(tmp_path / "no.csv")): "no.csv"}.items():
        found = command(*words, check=False)
        assert found.returncode == 1 and message in found.stderr
        assert "Traceback" not in found.stderr


def test_the_hash_of_a_table_knows_places_and_names():
    table = pd.DataFrame({"gbifID": [1, 2], "species": ["a", "b"],
                          "decimalLatitude": [1.0, 2.0],
                          "decimalLongitude": [3.0, 4.0]})
    digest = results.table_hash(table)
    assert digest == results.table_hash(table[::-1])
    assert digest != results.table_hash(table.assign(species=["b", "a"]))
    moved = table.assign(decimalLatitude=[1.0, 2.5])
    assert digest != results.table_hash(moved)


def test_kept_results_are_whole_and_say_their_commit():
    folder = results.folder()
    assert list(folder.glob("*.csv"))
    for path in folder.glob("*.csv"):
        kept = results.read(path)
        assert len(kept) and kept["commit"].str.fullmatch(
            r"[0-9a-f]{12}").all(), path.name
        assert not kept["device"].str.contains("/").any()


@pytest.mark.parametrize(("split", "model", "percent"), [
    ("random rows", "nearest 25", 58.2), ("1° blocks", "nearest 25", 44.5),
    ("5° blocks", "nearest 25", 30.4), ("1 shots", "nearest place", 32.6),
    ("3 shots", "nearest place", 37.7)])
def test_kept_results_of_the_real_table_are_the_known_ones(split, model,
                                                           percent):
    """Found before with other code; all draws and seeds within 1.5 points."""
    kept = results.read("real-90")
    found = kept[(kept["data"] == "10kEval-90") & (kept["by"] == "all")
                 & (kept["rank"] == "species") & (kept["metric"] == "top1")
                 & (kept["split"] == split) & (kept["model"] == model)]
    assert 100 * found["value"].mean() == pytest.approx(percent, abs=1.5)
    assert len(found) == {"1 shots": 10, "3 shots": 10,
                          "5° blocks": 3}.get(split, 1)


@pytest.mark.parametrize(("metric", "shots", "percent"), [
    ("top1_mean", 1, 32.6), ("top1_mean", 3, 39.1),
    ("top1_mean_of_all", 1, 32.3), ("top1_mean_of_all", 3, 38.0)])
def test_kept_means_over_many_draws(metric, shots, percent):
    kept = results.read("real-90")
    found, = kept[(kept["data"] == "10kEval-90") & (kept["metric"] == metric)
                  & (kept["split"] == f"{shots} shots")].itertuples()
    assert 100 * found.value == pytest.approx(percent, abs=0.5)
    assert found.low < found.value < found.high


def test_kept_results_name_what_they_exclude():
    kept = results.read("real-90")
    key = ["data", "split", "seed"]
    named = kept[kept["metric"] == "excluded"].groupby(key)["n"].sum()
    vote = kept[(kept["model"] == "nearest 25") & (kept["metric"] == "top1")
                & (kept["by"] == "all")].groupby(key)["excluded"].max()
    pd.testing.assert_series_equal(named, vote[vote > 0], check_names=False)


def test_the_gain_of_the_audit_is_the_sum_of_its_parts():
    kept = results.read("real-90")
    gain = kept[kept["metric"] == "audit_gain"].pivot(
        index="split", columns="group", values="value")
    assert set(gain.index) == {"random rows", "5° blocks"}
    np.testing.assert_allclose(
        gain["all"], gain["fewer classes"] + gain["which classes go"],
        atol=2e-5)
