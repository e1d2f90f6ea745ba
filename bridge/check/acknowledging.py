"""Who we are to the service, and what we may: asked by an ack of a receipt handle that doesn't exist.

A poll would tell the same, but takes messages away for a whole lease. The service answers such an ack (protocol.md 3.2, 7):

    Date more than 15 minutes off   408 TimeExpired
    unknown access key id           403 InvalidAccessKeyId
    another secret                  403 SignatureDoesNotMatch
    no such topic                   404 TopicNotExist
    no permission                   403 AccessDenied
    none of these                   404, ReceiptHandleError in `<Errors>`

What it looks at first isn't documented, so nothing is concluded about permission from a topic that doesn't exist, nor the
other way round.
"""

import asyncio
import time
from dataclasses import dataclass

from bridge.check.findings import LOOK_SECONDS, Finding, Status
from bridge.errors import BridgeError, BrokenAnswerError, FixSettingsError, TryAgainError
from bridge.rocketmq.client import Patience
from bridge.rocketmq.credentials.in_force import CredentialsInForce
from bridge.service import make_client, subscription
from bridge.settings import RocketMQ, RunSettings

NO_HANDLE = "not_a_receipt_handle"
"""It can't acknowledge anything: a receipt handle is the 32 hexadecimal digits of the message's id, a hyphen, and a suffix that
is another for each delivery (protocol.md 2.3). This has no digit and no hyphen, so no broker can ever have issued it."""

PATIENCE = Patience(write_silence=6.0, write=8.0)

MAX_SKEW_SECONDS = 15 * 60
"""How far the clocks may be apart (protocol.md 1.5)."""

DATE_RESOLUTION_SECONDS = 1.0

QUESTIONS = ("endpoint", "clock", "access_key", "topic", "permission", "group")
"""What one answer tells about, in the order in which it is found out."""

_ABOUT = {
    "TimeExpired": "clock",
    "InvalidDateHeader": "clock",
    "MissingDateHeader": "clock",
    "InvalidAccessKeyId": "access_key",
    "SignatureDoesNotMatch": "access_key",
    "InvalidAuthorizationHeader": "access_key",
    "MissingAuthorizationHeader": "access_key",
    "TopicNotExist": "topic",
    "InstanceNotExist": "topic",
    "InvalidArgument": "topic",
    "InvalidQueryString": "topic",
    "AccessDenied": "permission",
    "HTTPForbidden": "permission",
    "SubscriptionNotExist": "group",
}
"""Which question a code answers; any other stands for the endpoint, as nothing was found out beyond it."""

_ONLY_A_POLL_TELLS = "whether {group} exists, and may poll, is unknown until the first poll: polling takes messages"


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of the ack."""

    problem: BridgeError | None = None
    """None when the service had nothing against it but the handle."""
    clock_ahead: float | None = None
    """How far this machine's clock is ahead of the service's, in seconds, give or take one; None without a Date."""

    @property
    def is_far_off(self) -> bool:
        """Whether the clocks are further apart than the service allows."""
        return self.clock_ahead is not None and abs(self.clock_ahead) > MAX_SKEW_SECONDS


async def acknowledge_nothing(settings: RunSettings, credentials: CredentialsInForce) -> Answer:
    """Ask. The service bills one call, or two where it refuses the first for its date or for a key that can be renewed."""
    ahead: list[float] = []

    def note(date: float, _sent_at: float, _received_at: float) -> None:
        ahead.append(time.time() - date - DATE_RESOLUTION_SECONDS / 2)

    problem: BridgeError | None = None
    try:
        async with (
            asyncio.timeout(LOOK_SECONDS),
            make_client(settings.rocketmq, credentials, max_connections=1, on_date=note, patience=PATIENCE) as client,
        ):
            if not await client.ack(subscription(settings), [NO_HANDLE]):
                problem = BrokenAnswerError(
                    "what answers there accepts an ack of a receipt handle that doesn't exist, as the service never does; "
                    "is BRIDGE_ROCKETMQ__ENDPOINT the instance's HTTP endpoint (…mqrest…)?"
                )
    except BridgeError as refusal:
        problem = refusal
    except TimeoutError:
        problem = TryAgainError(f"no whole answer within {LOOK_SECONDS:g} s", answer_lost=True)
    return Answer(problem, ahead[-1] if ahead else None)


def concluded(answer: Answer, rocketmq: RocketMQ, access_key_id: str) -> list[Finding]:
    """What the answer tells, question by question."""
    blamed = _blamed(answer)
    settled = len(QUESTIONS) if blamed is None else min(QUESTIONS.index(blamed), QUESTIONS.index("topic"))
    well = {
        "endpoint": f"the service answers at {rocketmq.endpoint}",
        "clock": _difference(answer) or "the service, which allows 15 minutes, has nothing against it",
        "access_key": f"{access_key_id} and its secret are accepted",
        "topic": f"the service takes acks for {rocketmq.topic} of {rocketmq.instance_id or 'an instance without a namespace'}",
        "permission": f"{access_key_id} may acknowledge as {rocketmq.group_id}",
    }
    findings = []
    for number, name in enumerate(QUESTIONS):
        if name == blamed:
            findings.append(Finding(name, Status.WRONG, _mistake(name, answer)))
        elif number >= settled:
            findings.append(Finding(name, Status.UNKNOWN, f"see {blamed}"))
        elif name in well:
            findings.append(Finding(name, Status.OK, well[name]))
        else:
            findings.append(Finding(name, Status.UNKNOWN, _ONLY_A_POLL_TELLS.format(group=rocketmq.group_id)))
    return findings


def _blamed(answer: Answer) -> str | None:
    problem = answer.problem
    if problem is None:
        return None
    about = _ABOUT.get(problem.code or "", "endpoint") if isinstance(problem, FixSettingsError) else "endpoint"
    return "clock" if answer.is_far_off and about != "endpoint" else about  # whichever of two mistakes the service sees first


def _mistake(name: str, answer: Answer) -> str:
    problem = answer.problem
    text = str(problem).removeprefix("acknowledging: ")
    if name == "clock" and answer.is_far_off:
        return f"{_difference(answer)}; set the clock"
    if isinstance(problem, TryAgainError) and "BRIDGE_" not in text:
        if problem.answer_lost:
            return f"{text}; is BRIDGE_ROCKETMQ__ENDPOINT the instance's HTTP endpoint (…mqrest…), and not the TCP one?"
        return f"{text}; that may pass: check again in a minute"
    return text


def _difference(answer: Answer) -> str | None:
    if answer.clock_ahead is None:
        return None
    if abs(answer.clock_ahead) <= DATE_RESOLUTION_SECONDS:
        return "this machine's clock is the service's, to a second"
    where = "ahead of" if answer.clock_ahead > 0 else "behind"
    return f"this machine's clock is {abs(answer.clock_ahead):,.0f} s {where} the service's, and 15 minutes are allowed"
