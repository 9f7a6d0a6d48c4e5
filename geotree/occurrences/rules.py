"""Rules of the audit on names and keys; those on records stand beside.

A rule gives the rows that it marks, (N,) bool, and a function that says of
the marked rows of a species, by their positions, what is wrong. Rules on
names and keys see every taxon of a table once. The short lists that they
know are in ``geotree/data/audit.json``.
"""

import pandas as pd

from geotree.checks import few
from geotree.data import load
from geotree.occurrences import names

# Kingdoms to families have keys of up to four digits in GBIF's Backbone;
# Tracheophyta is the exception.
FIRST_SPECIES_KEY = 1_000_000
LISTS = load("audit.json")
_RANKS = {int(key): name for key, name in LISTS["higher ranks"].items()}


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


def lineage_conflict(taxa: pd.DataFrame):
    """Rows of one species disagree about its family or leaf type."""
    resolved = ~_is_unresolved(taxa["species"])
    wrong, words = pd.Series(False, taxa.index), {}
    for column in ("family", "leafType"):
        counts = taxa.groupby(["species", column])["rows"].sum()
        usual = counts.sort_values(ascending=False, kind="stable"
                                   ).reset_index().drop_duplicates("species")
        expected = taxa["species"].map(
            usual.set_index("species")[column].to_dict())
        other = resolved & (taxa[column] != expected) & taxa[column].notna()
        for species, part in taxa[other].groupby("species"):
            words.setdefault(species, []).append(
                f"{column} {few(sorted(part[column].unique()))}, elsewhere "
                f"{expected[part.index[0]]}")
        wrong |= other
    return wrong, lambda rows: "; ".join(words[taxa["species"][rows[0]]])


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
