"""What plan, apply and delete share: from a session and its options to a plan."""

import getpass
import os
import socket
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from provider.cli.output import Output, complain
from provider.cli.session import Session

if TYPE_CHECKING:
    from provider.engine.ports import Driver, Observer
    from provider.model.plan import Plan
    from provider.model.resource import Desired, World
    from provider.planning.options import PlanOptions


def observers(session: Session) -> "tuple[Observer, ...]":
    """Return who looks at this host; none of them can change it."""
    from provider.drivers.container_observe import ContainerObserver
    from provider.drivers.content import ContentObserver
    from provider.drivers.image import ImageObserver
    from provider.drivers.network import NetworkObserver
    from provider.drivers.volume import VolumeObserver

    root = session.root
    return (
        ImageObserver(root),
        NetworkObserver(root),
        VolumeObserver(root),
        ContentObserver(),
        ContainerObserver(root),
    )


def drivers(session: Session) -> "tuple[Driver, ...]":
    """Return who acts on this host, in the order in which they finish an apply."""
    from provider.drivers.container import ContainerDriver
    from provider.drivers.content import ContentDriver
    from provider.drivers.image import ImageDriver
    from provider.drivers.network import NetworkDriver
    from provider.drivers.volume import VolumeDriver

    root = session.root
    return (
        ContainerDriver(root),
        NetworkDriver(root),
        VolumeDriver(root),
        ContentDriver(),
        ImageDriver(root),
    )


def plan_desired(
    session: Session,
    desired: "Desired",
    options: "PlanOptions",
    seers: "Sequence[Observer]",
    *,
    held: bool = False,
) -> "tuple[Plan, World]":
    """Return the plan and the state it rests on, preflight included; changes nothing.

    *held*: the caller holds the project's lock.
    """
    from provider.engine.observe import observe, preflight
    from provider.planning.plan import make_plan

    world = observe(session.root.state, desired.project, seers, desired=desired, held=held)
    return preflight(make_plan(desired, world, options), seers), world


def warn(plan: "Plan", texts: Sequence[str], output: Output) -> "Plan":
    """Return *plan* with what should be known about the words of the command.

    In text it is said at once, on standard error: it is not about any resource of the plan.
    """
    if output is not Output.TEXT:
        return replace(plan, warnings=(*texts, *plan.warnings))
    for text in texts:
        complain(f"warning: {text}")
    return plan


def who() -> str:
    """Return who is at work, for locks and revisions: ``root@host``, behind sudo too."""
    user = os.environ.get("SUDO_USER") or getpass.getuser()
    return f"{user}@{socket.gethostname()}"
