import fcntl
import os
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import pytest

SINKS = Path(__file__).parent / "wrong" / "sinks.py"

CAUGHT_BY = {
    "DescribesNoSetting": "every_setting_is_described",
    "NeedsAnEventLoopToBeMade": "is_made_without_an_event_loop",
    "OpensOnlyOnce": "opens_when_the_other_side_has_come_up",
    "NeedsToBeOpenToClose": "closes_though_it_was_never_opened",
    "ConfirmsWhatItHasOnlyQueued": (
        "confirms_only_what_is_durable, confirms_nothing_while_the_other_side_is_frozen, "
        "confirms_nothing_while_the_other_side_is_down, what_was_confirmed_outlives_an_outage"
    ),
    "LosesTheLastOfMany": "confirms_only_what_is_durable, what_was_confirmed_outlives_an_outage",
    "LosesWhatComesInTheOutage": "an_outage_in_the_middle_loses_nothing",
    "WritesTwice": "confirms_only_what_is_durable, two_sends_at_once_each_get_their_own_answer",
    "CutsText": "what_is_held_is_the_event",
    "CondemnsTheWholeBatch": "names_exactly_the_events_that_failed",
    "AnswersOnceForAll": "answers_for_each_event",
    "ForgetsAnEvent": "names_exactly_the_events_that_failed",
    "TriesWhatIsRefusedForEver": "names_exactly_the_events_that_failed, a_refusal_in_one_send_hurts_no_other",
    "ChokesOnTheLarge": "the_largest_message_is_taken_or_refused_and_hurts_no_other",
    "IgnoresTheDeadline": "answers_by_the_deadline",
    "BeginsTooLate": "begins_nothing_after_the_deadline",
    "SaysAgainOfWhatIsOnItsWay": "what_is_to_be_tried_again_is_not_on_its_way",
    "AnswersTheLateNever": "a_caller_that_stops_waiting_loses_nothing",
    "CancelsTheLate": "a_caller_that_stops_waiting_loses_nothing",
    "BlocksTheEventLoop": "leaves_the_event_loop_to_others",
    "MixesUpItsSends": "two_sends_at_once_each_get_their_own_answer",
    "NeverConnectsAgain": "an_outage_in_the_middle_loses_nothing",
    "RaisesWhatItsDriverRaises": "an_outage_in_the_middle_loses_nothing",
    "CondemnsInAnOutage": "an_outage_is_no_refusal",
    "ProbesNothing": "the_probe_tells_up_from_down",
    "ProbesForEver": "the_probe_is_bounded",
    "DropsOnClose": "close_flushes_what_was_handed_over",
    "DropsWhoStillSends": "a_send_that_is_out_when_it_closes_is_answered",
    "HangsOnClose": "close_is_bounded_while_the_other_side_is_frozen",
    "HangsOnCloseInAnOutage": "close_is_bounded_while_the_other_side_is_down",
    "LosesOrder": "keeps_the_order_of_a_shard",
    "LosesOrderInAnOutage": "keeps_the_order_of_a_shard_through_an_outage",
}
"""The tests that have to complain of each wrong sink; others may."""

NARROW = {"DescribesNoSetting", "OpensOnlyOnce", "LosesTheLastOfMany", "ChokesOnTheLarge", "BlocksTheEventLoop", "HangsOnClose"}
"""Sinks whose mistake is one test's only: no other may complain."""


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Mapping[str, Mapping[str, str]]:
    """Of each sink, what became of each test; found out once, however many processes run these tests."""
    folder = tmp_path_factory.getbasetemp()
    shared = (folder if worker_id == "master" else folder.parent) / "wrong sinks"
    with shared.open("a+", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        report = shared.read_text("utf-8")
        if not report:
            report = _run_the_suite()
            file.write(report)
    outcomes: dict[str, dict[str, str]] = defaultdict(dict)
    for outcome, test, sink in re.findall(r"^([A-Z]+) \S+::test_(\w+)\[(\w+)\]", report, re.MULTILINE):
        outcomes[sink][test] = outcome
    assert outcomes, report
    return outcomes


def _run_the_suite() -> str:
    options = ["-p", "no:randomly", "-p", "no:cacheprovider", "-o", "filterwarnings=", "--tb=no", "-q", "-rA", "--color=no"]
    run = subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(SINKS)],
        cwd=SINKS.parents[3], env={name: text for name, text in os.environ.items() if not name.startswith("PYTEST")},
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    return run.stdout + run.stderr


def _complaining(outcomes: Mapping[str, str]) -> set[str]:
    return {test for test, outcome in outcomes.items() if outcome != "PASSED"}


@pytest.mark.parametrize("sink", CAUGHT_BY)
def test_a_wrong_sink_fails_the_test_that_names_its_mistake(outcomes: Mapping[str, Mapping[str, str]], sink: str) -> None:
    assert {*CAUGHT_BY[sink].split(", ")} <= _complaining(outcomes[sink])


@pytest.mark.parametrize("sink", sorted(NARROW))
def test_and_no_other(outcomes: Mapping[str, Mapping[str, str]], sink: str) -> None:
    assert _complaining(outcomes[sink]) == {*CAUGHT_BY[sink].split(", ")}


def test_a_right_sink_passes_every_test_and_skips_none(outcomes: Mapping[str, Mapping[str, str]]) -> None:
    assert len(outcomes["RightSink"]) > 20
    assert not _complaining(outcomes["RightSink"])


def test_every_test_of_the_suite_catches_some_wrong_sink(outcomes: Mapping[str, Mapping[str, str]]) -> None:
    """A test that no mistake makes fail proves nothing."""
    named = {test for tests in CAUGHT_BY.values() for test in tests.split(", ")}
    assert {*outcomes["RightSink"]} == named
