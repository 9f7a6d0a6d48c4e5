"""Tables, lists and maps that come with the module; README.md says whose."""

import json
from functools import cache
from importlib import resources


@cache
def load(name: str):
    """A JSON file as it is, a CSV as a DataFrame. Not to be modified."""
    path = resources.files(__name__) / name
    with path.open(encoding="utf-8") as file:
        if name.endswith(".json"):
            return json.load(file)
        import pandas as pd

        return pd.read_csv(file, comment="#")
