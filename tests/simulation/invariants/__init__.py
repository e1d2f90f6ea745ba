"""The promises (design.md 2), each as something that watches a story and says when it is broken.

An `on_…` method is shown every entry of its kind, with its instant, and returns what is wrong, or None. "Life" is one process
from its start to its end: what it knows dies with it.
"""

from simulation.invariants.acks import ConfirmedIsAcked, NoAckBeforeConfirmation
from simulation.invariants.duplicates import DuplicatesAreForced, TheLedgerIsShared
from simulation.invariants.ends import CallsAreBounded, EndsInTime
from simulation.invariants.order import OrderHolds
from simulation.invariants.outages import DeadLettersAreDeserved, NothingPolledInAnOutage, OneDeliveryPerOutage
from simulation.invariants.sends import NoSendIsCancelled, NothingPastItsDeadline, NotSentAgain, OpensOnce
from simulation.plan import Plan


def invariants(plan: Plan) -> list[object]:
    """Those that hold in such a world."""
    watchers: list[object] = [
        NoAckBeforeConfirmation(plan),
        NothingPastItsDeadline(plan),
        NotSentAgain(plan),
        DuplicatesAreForced(plan),
        ConfirmedIsAcked(plan),
        NothingPolledInAnOutage(plan),
        DeadLettersAreDeserved(plan),
        NoSendIsCancelled(),
        CallsAreBounded(plan),
        OpensOnce(),
        EndsInTime(),
    ]
    if plan.shared_ledger and not any(fault.name.startswith("LEDGER") for fault in plan.rates):
        watchers.append(TheLedgerIsShared())
    if plan.rules.ordered:
        watchers.append(OrderHolds(plan))
    if plan.only_outages and plan.replicas == 1:
        watchers.append(OneDeliveryPerOutage(plan))
    return watchers
