"""The picture of what came when: well-formed, a line for each curve, all of it inside."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from benchmarks.testbed.picture import draw
from benchmarks.testbed.stage import Curve

SVG = "{http://www.w3.org/2000/svg}"
SOURCES = [
    Curve("one & only", [(0.0, 0), (12.0, 15_000_000), (24.1, 30_100_000)]),
    Curve("four", [(0.0, 0), (6.3, 30_400_000)]),
]
CROWD = [Curve(f"{number}", [(0.0, 0), (9.0 + number, 10_000_000)]) for number in range(1, 12)]


def test_there_is_a_line_for_each_curve_and_its_name() -> None:
    root = ElementTree.fromstring(draw(SOURCES, CROWD))
    assert len(root.findall(f"{SVG}polyline")) == len(SOURCES) + len(CROWD)
    words = {text.text for text in root.findall(f"{SVG}text")}
    assert {"one & only", "four", "1", "11"} <= words


def test_every_point_is_inside() -> None:
    picture = draw(SOURCES, CROWD)
    root = ElementTree.fromstring(picture)
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    for points in re.findall(r' points="([^"]*)"', picture):
        for point in points.split():
            x, y = map(float, point.split(","))
            assert 0 <= x <= width
            assert 0 <= y <= height


def test_without_curves_there_is_no_plot() -> None:
    root = ElementTree.fromstring(draw([], []))
    assert root.findall(f"{SVG}polyline") == []
