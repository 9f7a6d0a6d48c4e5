"""Is it a tree? A list of yours says so, or what its relatives on it are."""

from __future__ import annotations

import os

import numpy as np
import pandas as pd

from geotree.data import load
from geotree.occurrences import names, reading

TREE = "(?i)" + "|".join(load("words.json")["tree words"])


def read_trees(trees) -> pd.DataFrame:
    """A list of trees, or a checklist that tells growth forms.

    Parameters
    ----------
    trees : path, DataFrame or iterable of str
        Names of species, in a column of a usual name (``TaxonName`` of
        BGCI's GlobalTreeSearch, ``species``, ``taxon_name``, …). With a
        column such as ``growthForm`` or ``lifeform_description`` a tree is
        what is called one there ("tree", "shrub or tree", "Baum"); without,
        all names are trees and all others are none. A column ``family``
        helps to judge what is not on the list.

    Returns
    -------
    DataFrame
        By name in one form: ``genus, family, form, tree`` (bool);
        ``attrs["whole"]``: whether what is not on it is no tree,
        ``attrs["left out"]``: rows without a name or a growth form.

    Raises
    ------
    ValueError
        No column, or none of names of species, or no growth form known.
    """
    if isinstance(trees, pd.DataFrame) and "whole" in trees.attrs:
        return trees
    if isinstance(trees, str | os.PathLike):
        trees = reading.frame(trees)
    if not isinstance(trees, pd.DataFrame):
        trees = pd.DataFrame({"species": list(trees)}, dtype=object)
    column, form, family = (
        reading.meant(trees, what, None, "list of trees")
        for what in ("species", "growthForm", "family"))
    if column is None:
        raise ValueError("list of trees has no column that looks like names "
                         f"of species; it has {', '.join(trees)}.")
    name = names.normals(trees[column])
    good = name.map(names.is_species).astype(bool)
    known = pd.DataFrame({
        "species": name, "genus": names.genus(name),
        "family": trees[family] if family else None,
        "form": trees[form].astype("str") if form else "tree"})[good]
    known = known[known["form"].fillna("").str.strip() != ""]
    if known.empty:
        raise ValueError(f"list of trees has no name of a species "
                         f"{'with a growth form ' if form else ''}in its "
                         f"{len(trees)} rows (column {column!r}).")
    known["tree"] = known["form"].str.contains(TREE)
    left_out = len(trees) - len(known)
    # Of two rows with one name the one that says "tree" counts.
    known = known.sort_values("tree", kind="stable", ascending=False)
    known = known.drop_duplicates("species").set_index("species")
    known.attrs = {"whole": form is None, "left out": left_out}
    return known


def judge(taxa: pd.DataFrame, trees) -> pd.DataFrame:
    """Ask the list about each taxon, and about its relatives.

    Parameters
    ----------
    taxa : DataFrame
        With ``species`` and, where known, ``family``.

    Returns
    -------
    DataFrame
        ``listed``: True, False or missing; ``why``; ``kin``: see
        :func:`kin`.
    """
    known = read_trees(trees)
    found = known[["tree", "form"]].reindex(taxa["species"])
    found = found.astype(object).set_axis(taxa.index)
    listed, why = found["tree"], "the list says " + found["form"]
    if known.attrs["whole"]:
        listed = listed.eq(True)
        count = names.genus(taxa["species"]).map(
            known["genus"].value_counts()).fillna(0).astype(int)
        why = ("not on the list of trees, which has " + count.astype("str")
               + " of its genus")
    return pd.DataFrame({"listed": listed, "why": why,
                         "kin": kin(known, taxa)})


def kin(known: pd.DataFrame, taxa: pd.DataFrame) -> pd.Series:
    """Share of trees among the others of its genus, else of its family.

    Returns
    -------
    (N,) float64
        Of those on the list, the taxon itself left out; NaN without any.
    """
    own = known["tree"].astype(float).reindex(taxa["species"]).to_numpy()
    share = np.full(len(taxa), np.nan)
    groups = {"genus": names.genus(taxa["species"])}
    if "family" in taxa:
        groups = {"family": taxa["family"], **groups}
    for rank, of in groups.items():
        trees, size = known.groupby(rank)["tree"].agg(
            ["sum", "size"]).reindex(of).to_numpy(float).T
        others = size - ~np.isnan(own)
        share = np.where(others > 0, (trees - np.nan_to_num(own))
                         / np.maximum(others, 1), share)
    return pd.Series(share, taxa.index)


def measured(known: pd.DataFrame, rules: dict) -> pd.DataFrame:
    """How well rules find what the list knows to be no tree.

    Parameters
    ----------
    known : DataFrame
        From :func:`read_trees`.
    rules : dict of (M,) bool
        What each rule says of the names of the list, by its name.

    Returns
    -------
    DataFrame
        By rule: ``accused``, ``right``, ``no tree``, ``precision`` (of
        those that it accuses, the share that is no tree) and ``recall`` (of
        those that are no tree, the share that it accuses).
    """
    bad = ~known["tree"].to_numpy(bool)
    found = pd.DataFrame({name: {
        "accused": accused.sum(), "right": (accused & bad).sum(),
        "no tree": bad.sum()} for name, accused in rules.items()}).T
    return found.assign(precision=found["right"] / found["accused"],
                        recall=found["right"] / found["no tree"])
