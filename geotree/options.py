"""What the subcommands of ``geotree`` share: options, errors, a question."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import click

from geotree import sources

HINT = "What is finished is kept: run the same command again to go on."


class Command(click.Group):
    """Errors of ours as one line, warnings as one line each."""

    number = 2  # of the signal that ends it

    def invoke(self, ctx):
        def told(message, *about, **more):
            click.echo(f"warning: {message}", err=True)

        with warnings.catch_warnings():
            warnings.simplefilter("default", UserWarning)
            warnings.showwarning = told
            try:
                return super().invoke(ctx)
            except KeyboardInterrupt:
                ctx.exit(128 + self.number)
            except (ValueError, TypeError, OSError, ImportError) as error:
                text = getattr(error, "strerror", None) or str(error)
                path = getattr(error, "filename", None)
                raise click.ClickException(
                    f"{text}: '{path}'" if path else text) from error


class Asking:
    """A source that asks once before it spends somebody's time or quota."""

    def __init__(self, source, yes: bool):
        self._source, self._agreed = source, yes

    def __getattr__(self, name: str):
        return getattr(self._source, name)

    def plan(self, table):
        """The plan of the source, when it is agreed to."""
        plan = self._source.plan(table)
        plan.check()
        if plan.requests and not self._agreed:
            click.echo(f"plan: {plan}", err=True)
            try:
                self._agreed = click.confirm("Go on?", err=True)
            except click.Abort:  # nobody is there to ask
                pass
            if not self._agreed:
                raise ValueError("nothing was fetched. Pass --yes to go on "
                                 "without the question.")
        return plan


def options(*names: str):
    """Options that several subcommands have, by name."""
    known = {
        "source": click.option(
            "--source", type=click.Choice(sources.names()), default="planet",
            show_default=True, help="Where the pixels come from."),
        "year": click.option(
            "--year", metavar="YEAR|COLUMN|own",
            help="Of the pixels: a year, or the column that holds it; own: "
                 "the column 'year'. Default: 2020."),
        "yes": click.option("--yes", is_flag=True,
                            help="Do not ask after the plan."),
        "lat": click.option("--lat", metavar="COLUMN",
                            help="Latitude; default: by the usual names."),
        "lon": click.option("--lon", metavar="COLUMN", help="Longitude."),
        "species": click.option("--species", metavar="COLUMN",
                                help="Name of the tree."),
        "id": click.option("--id", metavar="COLUMN",
                           help="Number or name of a row."),
        "model": click.option("--model", required=True,
                              help="Folder of a model, or a hub id."),
        "device": click.option(
            "--device", default="auto", show_default=True,
            type=click.Choice(["auto", "cpu", "cuda", "mps"])),
        "out": click.option("-o", "--out", required=True,
                            type=click.Path(path_type=Path),
                            help="Where the result goes."),
        "prior": click.option(
            "--prior/--no-prior", default=True, show_default=True,
            help="Use what the training records say of the place."),
        "checklist": click.option("--checklist", metavar="FILE",
                                  help="Only the species of this file."),
        "country": click.option(
            "--country", metavar="CODE",
            help="Only species with a training record there.")}

    def add(command):
        for name in reversed(names):
            command = known[name](command)
        return command
    return add


def open_source(name: str, year: str | None, yes: bool) -> Asking:
    """A source by name, with the settings of the environment."""
    make, about = sources.by_name(name), {}
    if name != "planet":
        about["year"] = int(year or 2020) if (year or "0").isdigit() else "own"
    if name == "earthengine":
        about["tier"] = os.environ.get("GEOTREE_EE_TIER", "community")
    if name == "stac":
        from geotree.explore import cache_folder

        about["cache"] = cache_folder() / "scenes"
        about |= {key: os.environ[variable] for key, variable in (
            ("url", "GEOTREE_STAC_URL"), ("rasters", "GEOTREE_STAC_RASTERS"),
            ("collection", "GEOTREE_STAC_COLLECTION"))
            if variable in os.environ}
    return Asking(make(**about), yes)


def columns(year, **names) -> dict:
    """Arguments of ``occurrences.from_points``."""
    if year and year != "own":
        names["year"] = int(year) if year.isdigit() else year
    return {name: value for name, value in names.items() if value}
