"""What the subcommands of ``geotree`` share: options, errors, a question.

Nothing heavy is imported here: help comes at once, and a signal is heeded
from the first moment on.
"""

import copy
import json
import os
import signal
import socket
import threading
import time
import warnings
from dataclasses import replace
from importlib import resources
from pathlib import Path

import click

HINT = "What is finished is kept: run the same command again to go on."


class Subcommand(click.Command):
    """Its options say something, or are left out."""

    def parse_args(self, ctx, args):
        rest = super().parse_args(ctx, args)
        for one in self.params:
            if not str(ctx.params[one.name]).strip():
                raise click.BadParameter(
                    "nothing was given, as of a variable of the shell that "
                    "is not set. Give a value, or leave it out.", ctx, one)
        return rest


class Command(click.Group):
    """Errors of ours as one line, warnings as one line each."""

    command_class = Subcommand
    number = signal.SIGINT  # that ends it
    told = threading.Event()  # how to go on

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
            except (ValueError, TypeError, OSError, ImportError,
                    MemoryError) as error:
                text = getattr(error, "strerror", None) or str(error)
                path = getattr(error, "filename", None)
                raise click.ClickException(
                    f"{text}: '{path}'" if path else text) from error

    def heed_signals(self) -> None:
        """Ctrl-C and SIGTERM end the command within two seconds.

        Python hears a signal between two of its own steps, which may be long
        in coming; the system writes its number down at once.
        """
        def stop(number, _):
            Command.number = number
            raise KeyboardInterrupt

        def watch():
            while True:
                number = read.recv(1)[0]
                ours = signal.getsignal(number) is stop
                if not ours:  # a run ends by itself, after what it must save
                    time.sleep(1.7)
                click.echo(f"\nStopped. {HINT}", err=True)
                Command.told.set()
                time.sleep(1.5 if ours else 0)
                os._exit(128 + number)

        read, write = socket.socketpair()
        write.setblocking(False)
        signal.set_wakeup_fd(write.detach(), warn_on_full_buffer=False)
        threading.Thread(target=watch, daemon=True).start()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, stop)


class Asking:
    """A source that asks once before it spends somebody's time or quota."""

    def __init__(self, source, yes: bool):
        self._source, self._agreed = source, yes

    def __getattr__(self, name: str):
        return getattr(self._source, name)

    def __reduce__(self):  # on a worker there is nobody to ask
        return copy.copy, (self._source,)

    def plan(self, table):
        """The plan of the source, whose check asks."""
        return replace(self._source.plan(table), agree=self._agree)

    def _agree(self, plan) -> None:
        if plan.requests and not self._agreed:
            click.echo(f"plan: {plan}", err=True)
            try:
                self._agreed = click.confirm("Go on?", err=True)
            except click.Abort:  # nobody is there to ask
                pass
            if not self._agreed:
                raise ValueError("nothing was fetched. Pass --yes to go on "
                                 "without the question.")


def _number(text: str) -> int | str:
    return int(text) if text.lstrip("-").isdecimal() else text


def _box(text: str) -> tuple[float, ...]:
    try:
        west, south, east, north = map(float, text.split(","))
    except ValueError:
        raise click.BadParameter(f"{text!r}, expected four numbers: "
                                 "west,south,east,north") from None
    return west, south, east, north


def _target(text: str) -> Path:
    """Where a result goes, if it can: found out before the work."""
    path = Path(text)
    there = next(one for one in (path, *path.absolute().parents)
                 if one.exists())
    if not text or not os.access(there, os.W_OK) or (
            there != path and not there.is_dir()):
        raise click.BadParameter(f"'{text}' cannot be written: '{there}' is "
                                 "read-only, or no folder.")
    return path


_TYPES = {"int": int, "float": float, "count": click.IntRange(1),
          "year": _number, "workers": _number, "box": _box, "target": _target}


def options(*names: str):
    """Options of a subcommand, by their names in ``options.json``."""
    known = json.loads((resources.files("geotree.data") / "options.json")
                       .read_bytes())

    def add(command):
        for name in reversed(names):
            about = known[name]
            command = click.option(
                *about.pop("flags"), **about | {
                    "type": _TYPES.get(about.get("type"))})(command)
        return command
    return add


def open_source(name: str, year: int | str | None, yes: bool) -> Asking:
    """A source by name, with the settings of the environment."""
    from geotree import files, run, sources

    make, about = sources.by_name(name), run.options_of(name)
    if name != "planet" and year is not None:
        about["year"] = year if isinstance(year, int) else "own"
    if name == "stac":
        about["cache"] = files.cache_folder() / "scenes"
    return Asking(make(**about), yes)
