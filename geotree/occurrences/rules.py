"""Rules of the audit: on names and keys, then on single records.

A rule gives the rows that it marks, (N,) bool, and a function that says of
the marked rows of a species, by their positions, what is wrong. Rules on
names and keys see every taxon of a table once. The short lists that they
know are in ``geotree/data/audit.json``.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from geotree import globe
from geotree.checks import few
from geotree.data import load
from geotree.occurrences import names
from geotree.occurrences.columns import PLACE

# Kingdoms to families have keys of up to four digits in GBIF's Backbone;
# Tracheophyta is the exception.
FIRST_SPECIES_KEY = 1_000_000
LISTS = load("audit.json")
_RANKS = {int(key): name for key, name in LISTS["higher ranks"].items()}
PIXEL = 10.0  # m; two records of a species in one such cell are duplicates
WIDE = 10_000.0  # km, a quarter of the way round the Earth
BLANK = 0.5  # ° around latitude 0, longitude 0
MACHINE = (r"(?i)automatically identified|machine[- ]identified|"
           r"image recognition|computer vision")
PLANTED = (r"(?i)\bplantad[oa]s\b|tree planting|\bplantations?\b|"
           r"arboret|botanic(?:al)? garden|jard[ií]n bot[aá]nico")


# Names and keys -------------------------------------------------------------


def higher_rank_key(taxa: pd.DataFrame):
    """The key is that of a family, an order or more: any plant may hide.

    The key of a whole genus looks like that of a species; ``wide_range`` may
    show it.
    """
    key = taxa["taxonKey"]

    def tell(rows):
        rank = _RANKS.get(key[rows[0]], "rank of a key below 1,000,000: a "
                          "family or more")
        return f"taxonKey {key[rows[0]]} is the {rank}"

    return _is_higher(key), tell


def shared_key(taxa: pd.DataFrame):
    """Two names have one key: synonyms in two classes, or a wrong match."""
    key = taxa["taxonKey"]
    usable = ((key > 0) & ~_is_higher(key) & ~_is_rounded(key)
              & ~_is_unresolved(taxa["species"]))
    of = taxa[usable].groupby("taxonKey")["species"].unique()
    of = of[of.map(len) > 1]
    return usable & key.isin(of.index), lambda rows: (
        f"taxonKey {key[rows[0]]} stands for {few(sorted(of[key[rows[0]]]))}")


def rounded_key(taxa: pd.DataFrame):
    """The key lost its last digits, so it leads to no or another taxon.

    Seen where keys of eight digits went through a format of three. The
    name may be right.
    """
    key = taxa["taxonKey"]
    return _is_rounded(key), lambda rows: (
        f"taxonKey {key[rows[0]]} is rounded to three digits")


def unresolved_name(taxa: pd.DataFrame):
    """The name is no genus with an epithet, as in ``Asimina spec``."""
    return _is_unresolved(taxa["species"]), lambda rows: (
        "not a genus with an epithet")


def not_a_plant(taxa: pd.DataFrame):
    """The genus is one of animals, or the family is none of plants.

    Animal families end in -idae. Plant genera with a namesake among the
    animals, such as Morus, are not accused.
    """
    known, family = LISTS["animal genera"], taxa["family"]
    animal = taxa["genus"].isin(known) | names.genus(
        taxa["species"]).isin(known)
    foreign = ~(family.str.fullmatch(r"[A-Z][a-z]+aceae").fillna(True)
                | family.isin([*LISTS["conserved plant families"],
                               "Unknown", ""]))
    return animal | foreign, lambda rows: (
        f"{taxa['genus'][rows[0]]} is a genus of animals"
        if animal[rows[0]] else
        f"{family[rows[0]]!r} is no name of a plant family")


def herb_or_vine(taxa: pd.DataFrame):
    """A herb or a vine by short lists of families, genera and species.

    They name common cases only: 10 of 44 on 300 other species. A list of
    yours is asked before them.
    """
    genus, species = names.genus(taxa["species"]), taxa["species"]
    family = taxa.get("family", genus)
    known = family.isin(LISTS["treeless families"])
    group = known | genus.isin(LISTS["treeless genera"])
    name = family.where(known, genus)
    found = group | species.isin(LISTS["herbs and vines"])
    return found & ~_is_listed(taxa), lambda rows: (
        f"{name[rows[0]]} holds herbs, vines and shrubs, no trees"
        if group[rows[0]] else "a herb or a vine")


def low_growth(taxa: pd.DataFrame):
    """A shrub or rosette plant that stays below two metres."""
    return taxa["species"].isin(LISTS["low growth"]) & ~_is_listed(
        taxa), lambda rows: "stays below two metres"


def not_a_tree(taxa: pd.DataFrame):
    """Not on your list of trees, or of another growth form there."""
    return taxa["listed"].eq(False), lambda rows: taxa["why"][rows[0]]


def no_tree_by_kin(taxa: pd.DataFrame):
    """Not on your list; few of its genus, or else of its family, are trees.

    Only a list that names other growth forms, too, can tell.
    """
    share = taxa["kin"]
    return taxa["listed"].isna() & (share < 0.5), lambda rows: (
        f"{share[rows[0]]:.0%} of its kin on the list are trees")


def genus_mismatch(taxa: pd.DataFrame):
    """The genus column disagrees with the first word of the name.

    Mostly a synonym under its accepted genus, sometimes a wrong match.
    """
    genus, first = taxa["genus"], names.genus(taxa["species"])
    return (first != genus.str.lstrip("×")) & genus.notna(), (
        lambda rows: f"genus column says {few(sorted(genus[rows].unique()))}")


def leaf_type(taxa: pd.DataFrame):
    """The leaf type contradicts the family, the genus or a known habit."""
    kind, species = taxa["leafType"], taxa["species"]
    needle = taxa["family"].isin(LISTS["needleleaf families"])
    falls = (species.isin(LISTS["deciduous"])
             | taxa["genus"].isin(LISTS["deciduous conifers"]))
    stays = species.isin(LISTS["evergreen"]) | (needle & ~falls)
    habit, shape = kind.str.split().str[0], kind.str.split().str[-1]
    right = (habit.mask(falls, "Deciduous").mask(stays & ~falls, "Evergreen")
             + " " + shape.mask(needle, "Needleleaf"))
    known = kind.notna() & (kind != "Unknown")
    return known & (right != kind), lambda rows: (
        f"says {kind[rows[0]]}, known as {right[rows[0]]}")


def _is_listed(taxa):
    """Which taxa your list of trees knows as trees."""
    return (taxa["listed"].eq(True) if "listed" in taxa
            else pd.Series(False, taxa.index))


def _is_higher(key):
    return (key > 0) & (key < FIRST_SPECIES_KEY) | key.isin(_RANKS)


def _is_rounded(key):
    return (key >= 10_000_000) & (key % 100_000 == 0)


def _is_unresolved(species):
    return ~names.normals(species).map(names.is_species) | (
        species.str.islower().fillna(True))


# Records --------------------------------------------------------------------


def machine_identified(table: pd.DataFrame):
    """The source names its pictures by machine; nobody has looked."""
    return _by_source(table, MACHINE)


def planted(table: pd.DataFrame):
    """The source records planted trees: saplings, or far from their home."""
    return _by_source(table, PLANTED)


def zero_coordinates(table: pd.DataFrame):
    """Within half a degree of latitude 0, longitude 0: a blank cell.

    The other rules on places leave these rows out.
    """
    return _from_zero(table) < BLANK, lambda rows: "at latitude 0, longitude 0"


def spatial_duplicate(table: pd.DataFrame):
    """A record of the species lies in the same cell of 10 m already."""
    cells = globe.cells(table, metres=PIXEL)
    again = pd.DataFrame(cells).assign(
        species=_codes(table["species"])).duplicated().to_numpy()
    return again & _is_placed(table), lambda rows: (
        f"{len(rows)} rows repeat a cell of {PIXEL:.0f} m that has a record")


def shared_point(table: pd.DataFrame):
    """Several species at the very same coordinates.

    It is the centre of a plot, a town or a grid cell.
    """
    point = _codes(table[PLACE[0]] + 1j * table[PLACE[1]])
    return _is_mixed(table, point) & _is_placed(table), lambda rows: (
        f"{len(rows)} rows share their coordinates with other species")


def equal_pixels(table: pd.DataFrame):
    """Pixels that are equal to the last bit, under several species.

    No two places look alike in every band and month: one patch was given
    two names.
    """
    same = _codes(table["pixels"])
    return _is_mixed(table, same) & table["pixels"].notna().to_numpy(), (
        lambda rows: f"{len(rows)} rows have the very pixels of another "
        "species")


def wide_range(table: pd.DataFrame):
    """One pair of records in twenty lies over 10,000 km apart.

    Three kinds of species do: those planted or naturalised abroad, weeds,
    and several species under one name. Only the last is wrong.
    """
    points, spans = globe.vectors_of(table), np.zeros(len(table))
    for _, rows in by_species(table, _is_placed(table)):
        if len(rows) < 10:
            continue
        some = points[rows[np.linspace(0, len(rows) - 1, min(
            len(rows), 200), dtype=int)]]  # (S, 3)
        cosine = (some @ some.T)[np.triu_indices(len(some), 1)]
        low = np.quantile(cosine, 0.05).clip(-1, 1)
        spans[rows] = globe.EARTH * np.arccos(low)  # km
    return spans > WIDE, lambda rows: (
        f"one pair of records in twenty is over {spans[rows[0]]:,.0f} km "
        f"apart; countries: {table['countryCode'].iloc[rows].nunique()}")


def by_species(table: pd.DataFrame, mask
               ) -> Iterator[tuple[str, np.ndarray]]:
    """Positions of the marked rows, one species at a time."""
    rows = np.flatnonzero(np.asarray(mask))
    for name, at in table["species"].iloc[rows].groupby(
            table["species"].iloc[rows].to_numpy()).indices.items():
        yield name, rows[at]


def _is_mixed(table, code) -> np.ndarray:
    """Which rows share their code with another species: (N,) bool."""
    species = _codes(table["species"])
    order = np.lexsort((species, code))
    first = np.r_[True, np.diff(code[order]) != 0]  # of a code
    other = np.r_[False, np.diff(species[order]) != 0] & ~first
    mixed = np.zeros(code.max() + 1, bool)
    mixed[code[order][other]] = True
    return mixed[code]


def _codes(column) -> np.ndarray:
    """Equal numbers for equal values: (N,) int64."""
    return pd.factorize(column, use_na_sentinel=False)[0].astype(np.int64)


def _by_source(table, pattern):
    source = table["datasetName"]
    known = pd.Series(source.dropna().unique(), dtype="str")
    theirs = source.isin(known[known.str.contains(pattern)]).to_numpy()

    def tell(rows):
        return "from " + few([
            name if len(name) <= 60 else f"{name[:59]}…"
            for name in sorted(source.iloc[rows].unique())])

    return theirs, tell


def _is_placed(table) -> np.ndarray:
    return _from_zero(table) >= BLANK


def _from_zero(table) -> np.ndarray:
    """Degrees from latitude 0, longitude 0; NaN of an unknown place."""
    return np.hypot(*table[PLACE].to_numpy(float).T)
