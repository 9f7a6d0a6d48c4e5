"""Rules on names and keys, with the short lists that they know."""

from __future__ import annotations

import pandas as pd

from geotree.audit.rows import Found, by_species, few, match


def _binomials(text: str) -> frozenset[str]:
    """``"Quercus ilex suber, Ilex aquifolium"`` as three names."""
    groups = (group.split() for group in text.split(","))
    return frozenset(f"{genus} {epithet}" for genus, *epithets in groups
                     for epithet in epithets)


# GBIF Backbone keys. Kingdoms to families have keys of up to four digits;
# Tracheophyta is the exception.
FIRST_SPECIES_KEY = 1_000_000
HIGHER_RANKS = {
    1: "kingdom Animalia", 6: "kingdom Plantae", 196: "class Liliopsida",
    220: "class Magnoliopsida", 408: "order Lamiales",
    412: "order Gentianales", 691: "order Rosales", 1353: "order Ericales",
    5015: "family Rosaceae", 8798: "family Rubiaceae",
    7707728: "phylum Tracheophyta",
}
# Animal genera whose names no accepted genus of plants bears: woodpeckers
# and other birds, monkeys, squirrels, butterflies, moths, beetles, gall
# makers. An animal family name (-idae) gives away all others.
ANIMALS = frozenset("""
    Dryocopus Picus Picoides Dendrocopos Melanerpes Campephilus Colaptes
    Sitta Parus Corvus Turdus Columba Semnopithecus Trachypithecus Presbytis
    Macaca Sciurus Callosciurus Tamiasciurus Funambulus Ratufa Colotis
    Belenois Papilio Vanessa Danaus Delias Catopsilia Eurema Colias Mylothris
    Appias Lymantria Acronicta Catocala Spodoptera Attacus Antheraea Bombyx
    Zeuzera Ips Dendroctonus Monochamus Agrilus Andricus Neuroterus Cynips
    Asphondylia Rhopalomyia Dasineura Cecidomyia""".split())
CONSERVED_FAMILIES = frozenset("""
    Compositae Cruciferae Gramineae Guttiferae Labiatae Leguminosae Palmae
    Umbelliferae""".split())  # plant families that do not end in -aceae
TREELESS_FAMILIES = frozenset("""
    Alismataceae Amaryllidaceae Balsaminaceae Cyperaceae Dioscoreaceae
    Droseraceae Equisetaceae Hydrocharitaceae Iridaceae Juncaceae
    Lentibulariaceae Liliaceae Lycopodiaceae Marantaceae Nymphaeaceae
    Orchidaceae Orobanchaceae Potamogetonaceae Saxifragaceae Smilacaceae
    Tropaeolaceae Typhaceae""".split())
TREELESS_GENERA = frozenset("""
    Achillea Alchemilla Allium Alternanthera Calystegia Cerastium Cirsium
    Clematis Convolvulus Epilobium Erigeron Fragaria Galium Geum Hedera
    Humulus Isotrema Lamium Lathyrus Lotus Mentha Myosotis Nabalus Oxalis
    Persicaria Plantago Ranunculus Stellaria Taraxacum Trifolium Urtica
    Vicia Vitis""".split())
HERBS_AND_VINES = _binomials("""
    Celastrus scandens, Desmodium canadense perplexum, Hypericum perforatum,
    Ipomoea cristulata hederacea nil purpurea, Lobelia tomentosa, Malva
    moschata neglecta sylvestris, Medicago lupulina marina polymorpha sativa,
    Passiflora incarnata, Ruellia caroliniensis strepens, Salvia pratensis,
    Sambucus ebulus, Sonchus arvensis asper oleraceus, Veronica arvensis
    chamaedrys hederifolia officinalis persica serpyllifolia""")
LOW_GROWTH = _binomials("""
    Calluna vulgaris, Coprosma depressa, Empetrum nigrum, Hypericum
    tenuifolium, Jatropha dioica, Kalmia hirsuta, Leucopogon amplexicaulis,
    Nolina texana, Vaccinium angustifolium crassifolium macrocarpon myrtillus
    oxycoccos uliginosum vitis-idaea""")
NEEDLE_FAMILIES = ("Cupressaceae", "Pinaceae", "Sciadopityaceae", "Taxaceae")
DECIDUOUS_CONIFERS = ("Glyptostrobus", "Larix", "Metasequoia", "Pseudolarix",
                      "Taxodium")
# Species that are easily given the habit of the rest of their genus.
EVERGREEN = _binomials("""
    Ilex aquifolium, Nuytsia floribunda, Prunus laurocerasus lusitanica,
    Quercus agrifolia coccifera ilex rotundifolia rysophylla suber""")
DECIDUOUS = _binomials("""
    Clethra alnifolia, Ilex verticillata decidua, Lindera benzoin, Magnolia
    acuminata, Quercus robur petraea rubra""")

NAME = r"[A-Z][a-zë-]+ (?:× ?|x )?[a-zà-ÿ-]{2,}(?: .+)?"
PLACEHOLDER = (r"(?i).* (?:spec|specs|sp|spp|indet|cf|aff|species|unknown|"
               r"hybrid|nov)\b\.?.*")


def higher_rank_key(table: pd.DataFrame) -> Found:
    """The key is that of a family, an order or more: any plant may hide.

    Knows the GBIF Backbone's keys above the genus. The key of a whole genus
    looks like that of a species; :func:`wide_range` may show it.
    """
    key = table["taxonKey"]
    for species, rows in by_species(table, _is_higher(key)):
        first = int(key.iloc[rows[0]])
        name = HIGHER_RANKS.get(
            first, "rank of a key below 1,000,000: a family or more")
        yield species, rows, f"taxonKey {first} is the {name}"


def shared_key(table: pd.DataFrame) -> Found:
    """Two names have one key: synonyms in two classes, or a wrong match."""
    key = table["taxonKey"]
    usable = (key > 0) & ~_is_higher(key) & ~_is_rounded(key)
    usable &= ~_is_unresolved(table["species"])
    pairs = table.loc[usable, ["taxonKey", "species"]].drop_duplicates()
    several = pairs[pairs.duplicated("taxonKey", keep=False)]
    names = several.groupby("taxonKey")["species"].agg(sorted)
    for species, rows in by_species(table, usable & key.isin(names.index)):
        number = key.iloc[rows[0]]
        yield (species, rows,
               f"taxonKey {number} stands for {few(names[number])}")


def rounded_key(table: pd.DataFrame) -> Found:
    """The key lost its last digits, so it leads to no or another taxon.

    Seen where keys of eight digits went through a format of three. The
    name may be right.
    """
    key = table["taxonKey"]
    for species, rows in by_species(table, _is_rounded(key)):
        yield (species, rows, f"taxonKey {key.iloc[rows[0]]} is rounded to "
                              "three digits")


def unresolved_name(table: pd.DataFrame) -> Found:
    """The name is no genus with an epithet, as in ``Asimina spec``."""
    for species, rows in by_species(table,
                                    _is_unresolved(table["species"])):
        yield species, rows, "not a genus with an epithet"


def not_a_plant(table: pd.DataFrame) -> Found:
    """The genus is one of animals, or the family is none of plants.

    Animal families end in -idae. Plant genera with a namesake among the
    animals, such as Morus, are not accused.
    """
    family, genus = table["family"], table["species"].str.split().str[0]
    animal = genus.isin(ANIMALS) | table["genus"].isin(ANIMALS)
    foreign = ~(match(family, r"[A-Z][a-z]+aceae")
                | family.isin(CONSERVED_FAMILIES))
    for species, rows in by_species(table, animal | foreign):
        first = table.iloc[rows[0]]
        yield species, rows, (
            f"{first['genus']} is a genus of animals"
            if animal.iloc[rows[0]] else
            f"{first['family']!r} is no name of a plant family")


def herb_or_vine(table: pd.DataFrame) -> Found:
    """A herb or a vine by the short lists of this module.

    The lists name common cases only; a list of all trees of the world is
    the proper test, but none may be passed on with this code.
    """
    genus = table["species"].str.split().str[0]
    reasons = (
        (table["family"], TREELESS_FAMILIES), (genus, TREELESS_GENERA),
        (table["species"], HERBS_AND_VINES))
    seen = pd.Series(False, table.index)
    for column, known in reasons:
        wrong = column.isin(known) & ~seen
        seen |= wrong
        for species, rows in by_species(table, wrong):
            name = column.iloc[rows[0]]
            yield species, rows, (
                "a herb or a vine" if name == species
                else f"{name} holds herbs, vines and shrubs, no trees")


def low_growth(table: pd.DataFrame) -> Found:
    """A shrub or rosette plant that stays below two metres."""
    for species, rows in by_species(table,
                                     table["species"].isin(LOW_GROWTH)):
        yield species, rows, "stays below two metres"


def genus_mismatch(table: pd.DataFrame) -> Found:
    """The genus column disagrees with the first word of the name.

    Mostly a synonym filed under its accepted genus, sometimes a match to a
    wrong name; a name service can tell.
    """
    first = table["species"].str.split().str[0]
    for species, rows in by_species(table, first != table["genus"]):
        others = sorted(table["genus"].iloc[rows].unique())
        yield species, rows, f"genus column says {few(others)}"


def lineage_conflict(table: pd.DataFrame) -> Found:
    """Rows of one species disagree about its family or leaf type."""
    resolved = ~_is_unresolved(table["species"])
    for column in ("family", "leafType"):
        counts = table.groupby(["species", column]).size()
        counts = counts.sort_values(ascending=False, kind="stable")
        usual = counts.reset_index().drop_duplicates("species")
        expected = table["species"].map(
            usual.set_index("species")[column].to_dict())
        other = resolved & (table[column] != expected)
        for species, rows in by_species(table, other):
            names = sorted(table[column].iloc[rows].unique())
            yield species, rows, (f"{column} {few(names)}, elsewhere "
                                  f"{expected.iloc[rows[0]]}")


def leaf_type(table: pd.DataFrame) -> Found:
    """The leaf type contradicts the family, the genus or a known habit.

    Knows the conifers and a dozen species that differ from their genus.
    """
    kind, species = table["leafType"], table["species"]
    needle = table["family"].isin(NEEDLE_FAMILIES)
    falls = species.isin(DECIDUOUS) | table["genus"].isin(DECIDUOUS_CONIFERS)
    stays = species.isin(EVERGREEN) | (needle & ~falls)
    habit, shape = kind.str.split().str[0], kind.str.split().str[-1]
    wrong = (needle & (shape != "Needleleaf")
             | falls & (habit != "Deciduous")
             | stays & (habit != "Evergreen"))
    for name, rows in by_species(table, wrong):
        at = rows[0]
        right = " ".join((
            "Deciduous" if falls.iloc[at] else
            "Evergreen" if stays.iloc[at] else habit.iloc[at],
            "Needleleaf" if needle.iloc[at] else shape.iloc[at]))
        yield name, rows, f"says {kind.iloc[at]}, known as {right}"


def _is_higher(key):
    return (key > 0) & (key < FIRST_SPECIES_KEY) | key.isin(HIGHER_RANKS)


def _is_rounded(key):
    return (key >= 10_000_000) & (key % 100_000 == 0)


def _is_unresolved(names):
    return match(names, PLACEHOLDER) | ~match(names, NAME)
