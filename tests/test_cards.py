"""The page of cards: its cells run, and other tools read what they write."""

import json
from pathlib import Path

import jupytext
import mlcroissant
import pandas as pd
import pytest
import shapely
from dwca.read import DwCAReader
from killing import Run
from pyarrow import parquet
from stac_model.schema import MLModelProperties

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "book/cards.md"
SMALL = "from geotree import chain\nchain.use(records=1500, epochs=1)\n"


@pytest.fixture(scope="module")
def cards(tmp_path_factory):
    """The folder of cards of a small run."""
    folder = tmp_path_factory.mktemp("cards")
    cells = [cell.source for cell in jupytext.read(PAGE).cells
             if cell.cell_type == "code"]
    Run(SMALL + "\n".join(cells), environment={
        "GEOTREE_DATA": str(folder)}).finish(500)
    return folder / "planet/sample/cards"


def test_croissant_names_each_column_of_its_file(cards):
    card = json.loads((cards / "croissant.json").read_text("utf-8"))
    file, = card["distribution"]
    table = pd.read_csv(cards / file["contentUrl"])
    fields = card["recordSet"][0]["field"]
    assert [field["source"]["extract"]["column"] for field in fields] == list(
        table)
    from geotree import files
    assert file["sha256"] == files.sha256(cards / file["contentUrl"])


def test_croissant_is_one_to_its_own_library(cards):
    data = mlcroissant.Dataset(str(cards / "croissant.json"))
    records = list(data.records("occurrences"))
    assert len(records) == len(pd.read_csv(cards / "occurrences.csv"))


def test_the_item_is_one_of_the_model_extension(cards):
    item = json.loads((cards / "model.stac.json").read_text("utf-8"))
    found = MLModelProperties.model_validate({
        name: value for name, value in item["properties"].items()
        if name.startswith("mlm:")})
    assert found.total_parameters > 100_000


def test_geoparquet_gives_its_points_to_another_tool(cards):
    """By its own note, the columns, and a library that knows shapes."""
    table = parquet.read_table(cards / "occurrences.geoparquet")
    about = json.loads(table.schema.metadata[b"geo"])
    kind, = about["columns"][about["primary_column"]]["geometry_types"]
    points = shapely.from_wkb(table[about["primary_column"]].to_numpy())
    assert {point.geom_type for point in points} == {kind} == {"Point"}
    csv = pd.read_csv(cards / "occurrences.csv")
    assert shapely.get_coordinates(points).tolist() == csv[
        ["decimalLongitude", "decimalLatitude"]].to_numpy().tolist()


def test_the_archive_is_one_to_another_tool(cards):
    with DwCAReader(str(cards / "occurrences.zip")) as archive:
        first = next(iter(archive))
        assert archive.descriptor.core.type.endswith("Occurrence")
        assert -90 <= float(first.data[
            "http://rs.tdwg.org/dwc/terms/decimalLatitude"]) <= 90
