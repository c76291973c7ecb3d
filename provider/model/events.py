"""What the engine tells while it works. Only provider.cli.output prints."""

from enum import StrEnum

from provider.model.ids import InstanceId
from provider.model.plan import Verb
from runtime.record import dataclass, field


class Phase(StrEnum):
    """Where an action is."""

    WAITING = "waiting"
    STARTED = "started"
    PROGRESS = "progress"
    OK = "ok"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class ActionEvent:
    """An action has entered a phase."""

    id: InstanceId
    verb: Verb
    phase: Phase
    message: str = ""
    duration_s: float = 0.0
    log_tail: tuple[str, ...] = field(default=())
    """Last log lines of a container that failed."""
