"""``python -m studies``: make results, and compare them."""

from __future__ import annotations

import argparse
from pathlib import Path

from studies import results


def parser() -> argparse.ArgumentParser:
    new = argparse.ArgumentParser(prog="python -m studies",
                                  description=__doc__)
    commands = new.add_subparsers(required=True, metavar="COMMAND")
    command = commands.add_parser(
        "compare", help="two files of results, side by side")
    command.add_argument("first", help="a CSV, or a name that the book keeps")
    command.add_argument("second")
    command.add_argument("--rows", type=int, default=20,
                         help="largest changes to print (default: 20)")
    command.set_defaults(work=_compare)
    command = commands.add_parser(
        "studies", help="how far place alone gets on a table of the release")
    command.add_argument("table", help="GlobalGeoTree-10kEval-90.csv")
    _out(command, "real-90.csv")
    command.set_defaults(work=_studies)
    command = commands.add_parser(
        "ablations", help="what each part of the compact model is worth, its "
                          "learning curve, and few shots")
    command.add_argument("--seeds", type=int, default=3)
    command.add_argument("--epochs", type=int, default=4)
    _out(command, "planet.csv")
    command.set_defaults(work=_ablations)
    command = commands.add_parser(
        "survey", help="presence-only records against a survey")
    command.add_argument("folder", help="presence.parquet, "
                         "background.parquet and survey.parquet")
    command.add_argument("--data", default="Swiss trees",
                         help="name of the data in the results")
    _out(command, "survey.csv")
    command.set_defaults(work=_survey)
    command = commands.add_parser(
        "patches", help="real patches without a place, alone and after the "
                        "planet")
    command.add_argument("file", help=".npz with images and species")
    command.add_argument("--data", default="German broadleaves",
                         help="name of the data in the results")
    _out(command, "real-patches.csv")
    command.set_defaults(work=_patches)
    return new


def _out(command, name: str) -> None:
    command.add_argument("--out", type=Path, default=results.folder() / name,
                         help=f"file to write (default: results/{name})")


def _compare(chosen) -> None:
    table = results.compare(results.read(chosen.first),
                            results.read(chosen.second))
    told = [name for name in results.KEY if table[name].nunique() > 1]
    print(table[[*told, "value_1", "value_2", "change", "apart"]]
          .head(chosen.rows).round(4).to_string(index=False))
    print(f"{len(table)} shared, {int(table['apart'].sum())} with intervals "
          f"apart; only in the first {table.attrs['only_first']}, only in "
          f"the second {table.attrs['only_second']}"
          + ("" if table.attrs["same_data"] else "; the data differ"))


def _studies(chosen) -> None:
    from studies import studies

    print(results.write(studies.both(chosen.table), chosen.out))


def _ablations(chosen) -> None:
    from studies import ablations

    found = ablations.everything(seeds=chosen.seeds, epochs=chosen.epochs)
    print(results.write(found, chosen.out))


def _patches(chosen) -> None:
    from studies import patches

    found = patches.everything(chosen.file, chosen.data)
    print(results.write(found, chosen.out))


def _survey(chosen) -> None:
    from studies import survey

    found = survey.everything(chosen.folder, chosen.data)
    print(results.write(found, chosen.out))


def main(arguments: list[str] | None = None) -> None:
    chosen = parser().parse_args(arguments)
    try:
        chosen.work(chosen)
    except (OSError, ValueError) as error:
        raise SystemExit(f"{type(error).__name__}: {error}") from error


if __name__ == "__main__":
    main()
