"""The command ``geotree``: from a table of places to answers and a map.

Each subcommand is a few public functions with their arguments; what they do
in detail is theirs to say. Rooms are imported when they are needed, so that
help comes at once. Used in chapter 11.
"""

import os
import sys
from pathlib import Path

import click

import geotree
from geotree.options import Command, open_source, options


@click.group(cls=Command, context_settings={
    "help_option_names": ["-h", "--help"], "max_content_width": 79,
    "show_default": True})
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
@click.argument("points")
@options("out", "source", "year", "lat", "lon", "species", "id", "batch",
         "workers", "yes")
def fetch(points, *, out, source, year, yes, batch, workers, **names):
    """Fetch the pixels of trees, or of places.

    A table goes in, a cube comes out. Rows without a usable place, year or
    name are left out, and counted. A run that stops goes on when it is
    called again. Without a column of names the planet shows what grows
    there.

    \b
    geotree fetch trees.csv -o trees.zarr
    geotree fetch trees.csv -o trees.zarr --source stac --year own
    geotree fetch trees.csv -o trees.zarr --lat north --lon east
    """
    from geotree import explore, occurrences, pixels, sources, taxonomy
    from geotree.files import apart

    source = open_source(source, year, yes)
    table = explore.dated(points, source, year, **names)
    _say(table)
    good = table[table["status"] == "ok"]
    if good.empty:
        raise ValueError(f"no row of '{points}' can be used: "
                         f"{table['reason'].iloc[0]}.")
    apart(names_to := Path(f"{out}.parquet"), points)
    if names_to.exists() and not out.exists():
        raise ValueError(f"'{names_to}', where the names of '{out}' would go, "
                         "is there already. Choose another --out, or move it "
                         "away.")
    if named := "species" in good:
        good = taxonomy.complete(good, sources.by_name("planet")().classes)
        for rank in ("family", "leafType"):
            lacking = good.loc[good[rank] == "Unknown", "species"].nunique()
            if lacking:
                click.echo(f"{lacking:,} species have no known {rank}: give "
                           f"it in a column '{rank}'", err=True)
    else:
        seen = explore.places(source, lat=good["decimalLatitude"],
                              lon=good["decimalLongitude"],
                              year=good["year"])
        if len(seen) < len(good):
            click.echo(f"{len(good) - len(seen):,} rows: "
                       "no tree there", err=True)
        good = seen.assign(gbifID=good["gbifID"].to_numpy()[seen.index])
    cube = pixels.download(good, source, out, chunk=batch, max_failed=1.0,
                           workers=workers)
    if named:
        occurrences.write(good, names_to)
    click.echo(f"{out}: {len(good):,} of {len(table):,} rows, "
               + _counts(pixels.counts(cube)))


def _say(table) -> None:
    told = ", ".join(f"{what} from '{name}'"
                     for what, name in table.attrs["columns"].items())
    click.echo(f"columns: {told}", err=True)
    for word, n in table.attrs["report"].items():
        if word != "ok":
            click.echo(f"{n:,} rows: {word}", err=True)


def _counts(counts) -> str:
    return ", ".join(f"{n:,} {word}" for word, n in counts.items())


@cli.command()
@click.argument("data")
@options("out", "start", "epochs", "batch_size", "rate", "seed", "device",
         "cache", "cache_gb")
def train(data, *, out, start, rate, cache, cache_gb, **how):
    """Train a model on fetched trees, or on shards.

    The cube is one that 'fetch' made of named trees. Shards may lie far
    away: in an object store (s3://), on the hub (hf://datasets/owner/name/
    folder) or a web server (https://). They are read from there, and what
    has come is kept for the next epoch.

    A tenth of the places, in blocks, tells how modest the model has to be;
    a fifth is never trained on and gives the score. What is needed to go
    on lies in a folder beside the model's, MODEL.training.

    \b
    geotree train trees.zarr -o model
    geotree train trees.zarr -o mine --from model --epochs 10
    geotree train s3://bucket/shards -o model --cache-gb 50
    """
    from geotree import evaluation, models, prior, shards, splits, training
    from geotree.files import only
    from geotree.models.compact import CompactClip

    only(out, "card.json", "*", what="a model")
    work = Path(f"{out}.training")
    if "://" in data or (Path(data) / shards.INDEX).exists():
        data = shards.open(data, cache=cache, cache_gb=cache_gb)
    else:
        from geotree import occurrences, pixels

        if not (names := Path(f"{data}.parquet")).exists():
            pixels.open(data)  # or no cube is there either
            raise ValueError(f"no table '{names}' beside '{data}': it was "
                             "fetched without names of trees, or moved.")
        table = occurrences.read(names)  # not all of what is in the cube
        data = shards.write(pixels.open(data, table=table), table,
                            work / "shards")
    part = splits.split(data.table, seed=how["seed"])
    learnt, checked, test = (data.select((part == name).to_numpy()) for name
                             in ("train", "validation", "test"))
    model = (CompactClip(seed=how["seed"]) if start is None
             else models.load(start))
    if rate is not None:
        how["learning_rate"] = rate
    training.fit(model, learnt, checked, out=work / "run",
                 settings=training.Settings(**how))
    prior.attach(model, learnt)
    model.save_pretrained(out)
    score = evaluation.score(
        evaluation.predict(model, test, data.classes), test.labels,
        data.classes, ranks=["species"],
        blocks=evaluation.spatial_blocks(test.table, 1.0)).iloc[0]
    click.echo(f"{out}: {len(data.classes)} species; right in "
               f"{score['value']:.0%} ({score['low']:.0%} to "
               f"{score['high']:.0%}) of {len(test):,} places that it never "
               "saw")


@cli.command()
@click.argument("points")
@options("out", "model", "source", "year", "lat", "lon", "species", "id",
         "prior", "checklist", "country", "rank", "top", "threshold",
         "coverage", "batch", "cache", "device", "workers", "yes")
def predict(points, *, out, source, year, yes, **how):
    """Say which tree grows at each place of a table.

    One row comes out for each row that goes in, in the same order, with
    its columns first. A row without an answer says why in 'status' and
    'reason'. What is fetched is kept: a second call asks for nothing.

    \b
    geotree predict places.csv -o answers.csv --model model
    geotree predict places.csv -o answers.geoparquet --model model \\
        --source stac --year 2021 --checklist trees-of-my-country.csv
    """
    from geotree import explore, files

    explore.kind_of(out)
    files.apart(out, points, how["checklist"])
    answers = explore.predict(points, year=year, **how,
                              source=open_source(source, year, yes))
    explore.write_answers(answers, out)
    status = answers.iloc[:, -2]
    click.echo(f"{out}: " + _counts(status.value_counts()))
    if not (status == "ok").any():
        raise ValueError("no row could be answered; the column 'reason' "
                         "says why.")


@cli.command("map")
@options("out", "model", "bbox", "step", "samples", "source", "one_year",
         "prior", "checklist", "country", "batch", "cache", "device",
         "workers", "yes")
def map_(*, out, source, year, yes, bbox, **how):
    """Map the likeliest name of each rank, and how sure it is.

    A GeoTIFF with two bands a rank, the name's number and the confidence in
    percent. The names and colours lie beside it, where QGIS looks for them.
    A map that was stopped goes on when it is called again, on any workers.

    \b
    geotree map --model model --bbox 5,45,11,48 --step 0.25 -o map.tif
    """
    from geotree import explore

    explore.kind_of(out, (".tif", ".tiff"))
    maps = explore.name_map(source=open_source(source, year, yes), year=year,
                            region=bbox, progress=True, **how)
    explore.write_geotiff(maps, out)
    click.echo(f"{out}: {maps.sizes['y']} × {maps.sizes['x']} cells, "
               f"{int((maps['status'] == 1).sum()):,} with an answer")


@cli.command()
@click.argument("table")
@options("lat", "lon", "species", "id")
@click.option("--trees", type=click.Path(), metavar="LIST",
              help="Names of trees, or a checklist with growth forms: what "
              "it says of a species comes first.")
@click.option("--cube", type=click.Path(),
              help="Pixels of the table, as 'fetch' made them.")
def audit(table, trees, cube, **names):
    """List what is suspect in a table of trees.

    \b
    geotree audit trees.csv
    geotree audit trees.csv --trees global_tree_search.csv
    """
    from geotree import occurrences, pixels, taxonomy

    try:  # the release's tables know the ranks, too
        table = occurrences.read_release(table)
    except ValueError:
        table = occurrences.from_points(table, **names)
        _say(table)
        table = table[table["status"] == "ok"]
    unknown = [name for name in table if table[name].isin(
        ["Unknown", 0]).all() or table[name].isna().all()]
    if trees:
        trees = occurrences.read_trees(trees)
        click.echo(f"list: {len(trees):,} names, {trees['tree'].sum():,} of "
                   f"trees; {trees.attrs['left out']:,} rows without a name "
                   "or growth form", err=True)
    found = taxonomy.audit(table.drop(columns=unknown), trees=trees,
                           pixels=cube and pixels.open(cube))
    click.echo(found.to_string(index=False) if len(found)
               else "nothing suspect was found")
    if found.attrs["skipped"]:
        click.echo("not looked for, for want of columns, a list of trees or "
                   "pixels: " + ", ".join(found.attrs["skipped"]), err=True)
    for rule, told in found.attrs["measured"].items():
        click.echo(f"{rule}, measured on the list: precision "
                   f"{told['precision']:.0%}, recall {told['recall']:.0%} "
                   f"({told['right']:,} right of {told['accused']:,} accused; "
                   f"{told['no tree']:,} are no tree)", err=True)


@cli.command()
@click.argument("answers")
@options("truth", "rank", "lat", "lon")
def evaluate(answers, *, truth, rank, **names):
    """Score answers where the truth is known.

    Intervals (95 %) are over blocks of one degree: neighbours are no
    independent witnesses.

    \b
    geotree evaluate answers.csv --truth species
    """
    from geotree import explore, globe, occurrences

    frame = occurrences.reading.frame(answers)
    table = occurrences.from_points(frame, **names)
    lat, lon = (table[name].fillna(0) for name in (
        "decimalLatitude", "decimalLongitude"))
    found = explore.score_answers(
        frame, truth, rank=rank,
        blocks=globe.blocks(lat=lat, lon=lon, degrees=1.0))
    click.echo(found.to_string(float_format="{:.3f}".format))


def main() -> None:
    """Run the command; Ctrl-C and SIGTERM end it within two seconds."""
    cli.heed_signals()
    try:
        cli(prog_name="geotree")
    except SystemExit as end:
        if end.code == 128 + cli.number:
            # Threads that are at work would bring an orderly end down.
            cli.told.wait(0.5)
            sys.stdout.flush()
            os._exit(end.code)
        raise
