"""Each state in words."""

import pytest

from bridge.watch.facts import Facts, Phase
from bridge.watch.headline import State, headline
from page import staging
from page.staging import Stage


def _told(facts: Facts) -> tuple[State, str]:
    said = headline(facts)
    return said.state, f"{said.word}: {said.text}"


def test_a_flow_is_told_as_messages_a_minute_and_its_sinks() -> None:
    stage = Stage("kafka", "webhook", "stdout")
    stage.runs()
    stage.flows(3, per_minute=1200)
    state, text = _told(stage.facts)
    assert state is State.FLOWING
    assert text.startswith("Flowing: 1,")
    assert text.endswith(" messages a minute to kafka, webhook and stdout")


def test_a_flow_that_has_just_begun_is_told_as_a_number_and_not_as_a_rate() -> None:
    stage = Stage("kafka", minutes=5 / 60)
    stage.runs()
    stage.flows(5 / 60, per_minute=24)
    assert _told(stage.facts) == (State.FLOWING, "Flowing: 2 messages so far to kafka")


def test_one_message_in_a_minute_is_a_flow() -> None:
    stage = Stage("kafka", minutes=2)
    stage.runs()
    stage.idles(1)
    stage.flows(5 / 60, per_minute=12)
    stage.idles(50 / 60)
    assert _told(stage.facts) == (State.FLOWING, "Flowing: 1 message a minute to kafka")


def test_idle_says_since_when() -> None:
    facts = staging.idle()
    assert _told(facts) == (State.IDLE, "Idle: connected, and nothing to deliver")
    assert headline(facts).since == facts.sinks["stdout"].last_ok


def test_a_message_that_has_just_come_is_on_its_way_and_an_old_one_waits() -> None:
    stage = Stage("kafka", minutes=2)
    stage.runs()
    stage.idles(2)
    stage.holds(2, for_seconds=1)
    assert _told(stage.facts) == (State.FLOWING, "Flowing: 2 messages on the way to kafka")
    stage.holds(2, for_seconds=30)
    assert _told(stage.facts) == (State.WAITING, "Waiting: 2 messages in hand, and none has got through in the last minute")


def test_a_sink_that_is_down_is_named_with_those_that_wait_for_it() -> None:
    stage = Stage("kafka", "webhook", "nats")
    stage.runs()
    stage.facts.sinks["webhook"].fails("503")
    assert _told(stage.facts) == (State.PAUSED, "Paused: the sink webhook is down, and kafka and nats wait for it")
    stage.facts.sinks["nats"].fails("no connection")
    assert _told(stage.facts) == (State.PAUSED, "Paused: the sinks webhook and nats are down, and kafka waits for them")


def test_of_several_sinks_that_are_down_the_one_that_has_been_for_longest_is_explained() -> None:
    stage = Stage("kafka", "webhook", minutes=2)
    stage.runs()
    stage.facts.sinks["webhook"].fails("503")
    stage.idles(1)
    stage.facts.sinks["kafka"].fails("no connection")
    said = headline(stage.facts)
    assert (said.about, said.since) == ("sink webhook", stage.facts.sinks["webhook"].since)


def test_what_has_to_be_seen_to_first_is_said_first() -> None:
    stage = Stage("kafka")
    facts = stage.facts
    assert _told(facts) == (State.STARTING, "Starting: opening kafka")
    facts.sinks["kafka"].works()
    assert _told(facts) == (State.STARTING, "Starting: waiting for the broker's first answer")
    stage.runs()
    facts.acks.fails("no answer")
    assert headline(facts).state is State.UNACKED
    facts.rocketmq.fails("no answer")
    assert headline(facts).state is State.NOT_CONNECTED
    facts.sinks["kafka"].fails("no answer")
    assert headline(facts).state is State.PAUSED
    facts.phase = Phase.DRAINING
    assert headline(facts).state is State.DRAINING
    facts.loop_stuck_seconds = 60.0
    assert headline(facts).state is State.STUCK


@pytest.mark.parametrize(("in_hand", "text"), [(0, "no message in"), (1, "1 message in"), (1200, "1,200 messages in")])
def test_draining_says_how_much_is_still_in_hand(in_hand: int, text: str) -> None:
    stage = Stage("kafka")
    stage.runs()
    stage.holds(in_hand)
    stage.facts.phase = Phase.DRAINING
    assert text in headline(stage.facts).text


def test_every_trouble_has_an_error_or_advice_under_it() -> None:
    for stage in (staging.sink_down, staging.not_connected, staging.unacked):
        about = headline(stage()).about
        assert about in {component.name for component in stage().components}
    for stage in (staging.stuck, staging.waiting, staging.draining):
        assert headline(stage()).advice
