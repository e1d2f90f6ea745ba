import json
from typing import Any

import pytest

from helm import dashboard
from monitoring.promql import DASHBOARDS

BUILT = json.loads(dashboard.generated())
PANELS = [panel for panel in BUILT["panels"] if panel["type"] != "row"]


def test_the_dashboard_is_what_its_generator_makes() -> None:
    """If it isn't: `make reference`."""
    assert dashboard.DASHBOARD.read_text(encoding="utf-8") == dashboard.generated()
    assert [dashboard.DASHBOARD] == DASHBOARDS


@pytest.mark.parametrize("panel", PANELS, ids=[panel["title"] for panel in PANELS])
def test_a_panel_says_what_it_shows_in_which_unit_and_asks_the_chosen_datasource(panel: dict[str, Any]) -> None:
    assert panel["description"]
    assert panel["type"] in ("state-timeline", "heatmap") or panel["fieldConfig"]["defaults"]["unit"]
    letters = [target["refId"] for target in panel["targets"]]
    assert letters == sorted(set(letters))
    for asked in (panel, *panel["targets"]):
        assert asked["datasource"] == {"type": "prometheus", "uid": "${datasource}"}


def test_panels_have_ids_of_their_own_and_none_covers_another() -> None:
    ids = [panel["id"] for panel in BUILT["panels"]]
    assert len(set(ids)) == len(ids)
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in BUILT["panels"])
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) == dashboard.COLUMNS - 1
