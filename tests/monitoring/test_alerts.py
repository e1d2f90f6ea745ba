"""The alerts fire in the states of a bridge that somebody should know of, and in no other: over recordings of real runs."""

from pathlib import Path

import pytest

from monitoring import promtool
from monitoring.promql import rules
from monitoring.states import STATES, State


def test_prometheus_takes_the_rules() -> None:
    promtool.check(*promtool.RULES)


def test_each_alert_has_a_state_that_fires_it() -> None:
    assert {rule["alert"] for rule in rules()} == {alert for state in STATES for alert in state.fires}


@pytest.mark.parametrize("state", STATES, ids=[state.name for state in STATES])
def test_a_state_fires_exactly_its_alerts_and_they_end_with_it(state: State, tmp_path: Path) -> None:
    promtool.fires(tmp_path, state)
