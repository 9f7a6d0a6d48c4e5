"""The map that the land and the countries of ``geotree.data`` are made from.

TopoJSON as published: see ``geotree/data/README.md``.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

MAP = json.loads(Path(__file__).with_name("world.json").read_text("utf-8"))


def rings_of(geometry: dict) -> list[np.ndarray]:
    """Rings of one TopoJSON geometry: each (P, 2), longitude first."""
    if geometry["type"] == "GeometryCollection":
        return [ring for part in geometry["geometries"]
                for ring in rings_of(part)]
    scale = np.array(MAP["transform"]["scale"])
    shift = np.array(MAP["transform"]["translate"])
    polygons = geometry["arcs"]
    if geometry["type"] == "Polygon":
        polygons = [polygons]
    rings = []
    for numbers in (ring for polygon in polygons for ring in polygon):
        parts = []
        for number in numbers:
            arc = MAP["arcs"][number if number >= 0 else ~number]
            points = np.cumsum(arc, axis=0) * scale + shift
            points = points if number >= 0 else points[::-1]
            parts.append(points[bool(parts):])  # arcs share their ends
        rings.append(np.concatenate(parts))
    return rings
