"""One record from GBIF and, where a key is given, one patch from Earth Engine.

Not a test of ours but of theirs: do the services still answer as the
clients expect? ``EE_KEY`` is the JSON key of a service account,
``EE_PROJECT_ID`` its project; neither is printed. ``GEOTREE_GBIF_URL`` and
``EE_URL`` name other services.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from geotree import occurrences
from geotree.sources import OK


def main() -> int:
    """Ask both; print what came."""
    client = occurrences.Client(
        os.environ.get("GEOTREE_GBIF_URL", occurrences.GBIF))
    with tempfile.TemporaryDirectory() as folder:
        taxa = occurrences.match(["Betula pendula"], client=client,
                                 cache=Path(folder, "names.jsonl"))
        table = occurrences.collect(taxa, route="search", limit=1,
                                    client=client,
                                    folder=Path(folder, "records"))
    print(table.iloc[0].to_string())
    key = os.environ.get("EE_KEY")
    if not key:
        print("no EE_KEY: Earth Engine is not asked")
        return 0
    import ee

    from geotree.sources.earthengine import EarthEngine

    ee.Initialize(ee.ServiceAccountCredentials(key_data=key),
                  project=os.environ["EE_PROJECT_ID"],
                  url=os.environ.get("EE_URL"))
    found = EarthEngine().fetch(table.head(1))
    print("reflectance", found.reflectance[0, :, :, 2, 2])
    print("environment", found.environment[0])
    return 0 if found.status[0] == OK else 1


if __name__ == "__main__":
    sys.exit(main())
