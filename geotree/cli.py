"""The command ``geotree``: from a table of places to answers and a map.

Each subcommand is a few public functions with their arguments; what they do
in detail is theirs to say. Rooms are imported when they are needed, so that
help comes at once. Used in chapter 11.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path

import click

import geotree
from geotree.options import HINT, Command, columns, open_source, options

RANKS = ["leafType", "family", "genus", "species"]


@click.group(cls=Command, context_settings={
    "help_option_names": ["-h", "--help"], "max_content_width": 79})
@click.version_option(geotree.__version__)
def cli():
    """Which tree grows here, seen from satellites, and how sure are we?

    A table of places goes in (CSV, TSV, what Excel saves, gzip, Parquet or
    GeoParquet); answers and maps come out. Without an account everything
    runs on a simulated planet; --source stac or earthengine is the Earth.

    \b
    geotree fetch trees.csv -o trees.zarr
    geotree train trees.zarr -o model
    geotree predict places.csv -o answers.csv --model model
    geotree evaluate answers.csv --truth species
    geotree map --model model --bbox 5,45,11,48 --step 0.25 -o map.tif
    """


@cli.command()
@click.argument("points", type=click.Path())
@options("out", "source", "year", "lat", "lon", "species", "id", "yes")
@click.option("--batch", default=256, show_default=True,
              type=click.IntRange(1), help="Places a unit of work.")
def fetch(points, out, source, year, yes, batch, **names):
    """Fetch the pixels of a table of trees into a cube.

    Rows without a usable place or name are left out, and counted. A run
    that stops goes on when it is called again.

    \b
    geotree fetch trees.csv -o trees.zarr
    geotree fetch trees.csv -o trees.zarr --source stac --year own
    geotree fetch trees.csv -o trees.zarr --lat Hoch --lon Rechts
    """
    from geotree import occurrences, pixels, sources, taxonomy

    table = occurrences.from_points(points, **columns(year, **names))
    _saycolumns(table)
    good = table[table["status"] == "ok"]
    if year not in (None, "own") or "year" not in table.attrs["columns"]:
        good = good.assign(year=good["year"].fillna(2020))
    good = good.dropna(subset="year")
    if good.empty:
        raise ValueError(f"no row of '{points}' can be used: "
                         f"{table['reason'].iloc[0]}.")
    if "species" in good:
        good = taxonomy.complete(good, sources.by_name("planet")().classes)
        for rank in ("family", "leafType"):
            lacking = good.loc[good[rank] == "Unknown", "species"].nunique()
            if lacking:
                click.echo(f"{lacking:,} species have no known {rank}: give "
                           f"it in a column '{rank}'", err=True)
    cube = pixels.download(good, open_source(source, year, yes), out,
                           chunk=batch, max_failed=1.0)
    if "species" in good:
        occurrences.write(good, f"{out}.parquet")
    click.echo(f"{out}: {len(good):,} of {len(table):,} rows, "
               + ", ".join(f"{n:,} {name}" for name, n in
                           pixels.counts(cube).items()))


def _saycolumns(table):
    told = ", ".join(f"{what} from '{name}'"
                     for what, name in table.attrs["columns"].items())
    click.echo(f"columns: {told}", err=True)
    for word, n in table.attrs["report"].items():
        if word != "ok":
            click.echo(f"{n:,} rows: {word}", err=True)


@cli.command()
@click.argument("cube", type=click.Path())
@options("out", "device")
@click.option("--from", "start", metavar="MODEL",
              help="Go on from this model instead of from nothing.")
@click.option("--epochs", type=click.IntRange(1),
              help="Default: 10, or more where the trees are few.")
@click.option("--batch", default=64, show_default=True,
              type=click.IntRange(1), help="Samples a step.")
@click.option("--rate", type=float, help="Peak learning rate.")
@click.option("--seed", default=0, show_default=True)
def train(cube, out, device, start, epochs, batch, rate, seed):
    """Train a model on a cube that 'fetch' made of named trees.

    A tenth of the places, in blocks, tells how modest the model has to be;
    a fifth is never trained on and gives the score. What is needed to go
    on lies in a folder beside the model's, MODEL.training.

    \b
    geotree train trees.zarr -o model
    geotree train trees.zarr -o mine --from model --epochs 10
    """
    from geotree import (
        evaluation,
        occurrences,
        pixels,
        prior,
        shards,
        splits,
        training,
    )
    from geotree.models.compact import CompactClip

    work = Path(f"{out}.training")
    data = shards.write(pixels.open(cube), occurrences.read(
        f"{cube}.parquet"), work / "shards")
    part = splits.split(data.table, seed=seed).to_numpy()
    model = (CompactClip.from_pretrained(start) if start
             else CompactClip(seed=seed))
    rate = {"learning_rate": rate} if rate else {}
    training.fit(model, data.select(part == "train"),
                 data.select(part == "validation"), out=work / "run",
                 settings=training.Settings(
                     epochs=epochs, batch_size=batch, seed=seed,
                     device=device, **rate))
    prior.attach(model, data.select(part == "train"),
                 data.select(part == "validation"))
    model.save_pretrained(out)
    test = data.select(part == "test")
    score = evaluation.score(
        evaluation.predict(model, test, data.classes), test.labels,
        data.classes, ranks=["species"],
        blocks=evaluation.spatial_blocks(test.table, 1.0)).iloc[0]
    click.echo(f"{out}: {len(data.classes)} species; right in "
               f"{score['value']:.0%} ({score['low']:.0%} to "
               f"{score['high']:.0%}) of {len(test):,} places that it never "
               "saw")


@cli.command()
@click.argument("points", type=click.Path())
@options("out", "model", "source", "year", "lat", "lon", "species", "id",
          "prior", "checklist", "country", "device", "yes")
@click.option("--rank", default="species", show_default=True,
              type=click.Choice(RANKS),
              help="How deep the names go.")
@click.option("--top", default=5, show_default=True, type=click.IntRange(1),
              help="How many of the likeliest names.")
@click.option("--threshold", default=0.8, show_default=True,
              help="Probability from which a name is sure.")
@click.option("--coverage", default=0.9, show_default=True,
              help="How often the set of names shall hold the right one.")
@click.option("--batch", default=256, show_default=True,
              type=click.IntRange(1), help="Places a unit of work.")
@click.option("--cache", type=click.Path(),
              help="Folder of fetched pixels.")
def predict(points, out, source, year, yes, lat, lon, species, id, **how):
    """Say which tree grows at each place of a table.

    One row comes out for each row that goes in, in the same order, with
    its columns first. A row without an answer says why in 'status' and
    'reason'. What is fetched is kept: a second call asks for nothing.

    \b
    geotree predict places.csv -o answers.csv --model model
    geotree predict places.csv -o answers.geoparquet --model model \\
        --source stac --year 2021 --checklist trees-of-my-country.csv
    """
    from geotree import explore

    explore.kind_of(out)
    answers = explore.predict(
        points, source=open_source(source, year, yes), **how,
        **columns(year, lat=lat, lon=lon, species=species, id=id))
    explore.write_answers(answers, out)
    status = answers.filter(regex="^(geotree_)?status$").iloc[:, -1]
    click.echo(f"{out}: " + ", ".join(
        f"{n:,} {word}" for word, n in status.value_counts().items()))
    if not (status == "ok").any():
        raise ValueError("no row could be answered; the column 'reason' "
                         "says why.")


@cli.command("map")
@options("out", "model", "source", "year", "prior", "checklist", "country",
          "device", "yes")
@click.option("--bbox", required=True, metavar="WEST,SOUTH,EAST,NORTH",
              help="Degrees.")
@click.option("--step", required=True, type=float,
              help="Side of a cell in degrees.")
@click.option("--samples", default=1, show_default=True,
              type=click.IntRange(1), help="Places asked in each cell.")
@click.option("--batch", default=2048, show_default=True,
              type=click.IntRange(1), help="Places asked at a time.")
def map_(out, source, year, yes, bbox, **how):
    """Map the likeliest name of each rank, and how sure it is.

    A GeoTIFF with two bands a rank, the name's number and the confidence in
    percent. The names and colours lie beside it, where QGIS looks for them.

    \b
    geotree map --model model --bbox 5,45,11,48 --step 0.25 -o map.tif
    """
    from geotree import explore

    try:
        region = tuple(float(one) for one in bbox.split(","))
    except ValueError:
        region = ()
    if len(region) != 4:
        raise click.BadParameter(f"{bbox!r}, expected four numbers: "
                                 "west,south,east,north", param_hint="--bbox")
    maps = explore.name_map(
        source=open_source(source, year, yes), region=region,
        year=int(year) if (year or "").isdigit() else 2020, **how)
    explore.write_geotiff(maps, out)
    click.echo(f"{out}: {maps.sizes['y']} × {maps.sizes['x']} cells, "
               f"{int((maps['status'] == 1).sum()):,} with an answer")


@cli.command()
@click.argument("table", type=click.Path())
@options("lat", "lon", "species", "id")
def audit(table, **names):
    """List what is suspect in a table of trees.

    \b
    geotree audit trees.csv
    """
    from geotree import occurrences, taxonomy

    table = occurrences.from_points(table, **columns(None, **names))
    _saycolumns(table)
    table = table[table["status"] == "ok"]
    unknown = [name for name in table if table[name].isin(
        ["Unknown", 0]).all() or table[name].isna().all()]
    found = taxonomy.audit(table.drop(columns=unknown))
    click.echo(found.to_string(index=False) if len(found)
               else "nothing suspect was found")
    if found.attrs["skipped"]:
        click.echo("not looked for, for want of columns: "
                   + ", ".join(found.attrs["skipped"]), err=True)


@cli.command()
@click.argument("answers", type=click.Path())
@click.option("--truth", required=True, metavar="COLUMN",
              help="The true names.")
@click.option("--rank", default="species", show_default=True,
              type=click.Choice(RANKS),
              help="Of the true names.")
@options("lat", "lon")
def evaluate(answers, truth, rank, **names):
    """Score answers where the truth is known.

    Intervals (95 %) are over blocks of one degree: neighbours are no
    independent witnesses.

    \b
    geotree evaluate answers.csv --truth species
    """
    from geotree import explore, globe, occurrences

    table = occurrences.from_points(answers, **columns(None, **names))
    found = explore.score_answers(occurrences.reading.frame(answers), truth,
                                  blocks=globe.blocks(
                                      lat=table["decimalLatitude"].fillna(0),
                                      lon=table["decimalLongitude"].fillna(0),
                                      degrees=1.0), rank=rank)
    click.echo(found.to_string(float_format="{:.3f}".format))


def main() -> None:
    """Run the command; Ctrl-C and SIGTERM end it within two seconds."""
    def stop(number, _):
        click.echo(f"\nStopped. {HINT}", err=True)
        Command.number = number
        # A thread that waits for a service may not hold up the end.
        timer = threading.Timer(1.5, os._exit, (128 + number,))
        timer.daemon = True
        timer.start()
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    sys.exit(cli(prog_name="geotree"))
