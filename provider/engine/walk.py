"""Which actions of a plan may start, as others end: the bookkeeping of an apply. No I/O, no clock.

An action starts when each of its needs is met. ``started`` is met when the target was performed;
``healthy`` and ``completed`` when the target has settled, if this walk has started it, else when
somebody who waits for them says so. What fails, or is skipped, takes with it what depends on it
and nothing else.
"""

import heapq
from collections.abc import Iterator, Sequence
from enum import Enum

from provider.model.ids import InstanceId
from provider.model.plan import Action, Need, Verb
from provider.model.resource import Condition


class State(Enum):
    """Where an action is; the last three are for good."""

    WAITING = "waiting"
    PERFORMING = "performing"
    SETTLING = "settling"
    DONE = "done"
    FAILED = "failed"
    SKIPPED = "skipped"


class Walk:
    """The state of a walk through the actions of one plan, which are in dependency order."""

    def __init__(self, actions: Sequence[Action]) -> None:
        self._actions = {action.id: action for action in actions}
        self._position = {action.id: number for number, action in enumerate(actions)}
        self._state = {
            action.id: State.DONE if action.verb is Verb.NOOP else State.WAITING
            for action in actions
        }
        self._open = sum(state is State.WAITING for state in self._state.values())
        self._unmet: dict[InstanceId, set[Need]] = {}
        self._users: dict[InstanceId, list[tuple[InstanceId, Need]]] = {}
        self._ready: list[tuple[int, InstanceId]] = []
        self._waits: list[Need] = []
        self._asked: set[Need] = set()
        self._met: set[Need] = set()
        self._proving: set[InstanceId] = set()
        self._skipped: list[tuple[InstanceId, str]] = []
        for action in actions:
            if action.verb is not Verb.NOOP:
                self._unmet[action.id] = set(action.needs)
                for need in action.needs:
                    self._users.setdefault(need.target, []).append((action.id, need))
        for instance, needs in self._unmet.items():
            self._look(instance, tuple(needs))

    @property
    def is_over(self) -> bool:
        """True if every action has ended."""
        return self._open == 0

    def take_ready(self) -> Action | None:
        """Return the next action to start, in plan order; it counts as performing."""
        while self._ready:
            _, instance = heapq.heappop(self._ready)
            if self._state[instance] is State.WAITING:
                self._state[instance] = State.PERFORMING
                return self._actions[instance]
        return None

    def take_waits(self) -> Iterator[Need]:
        """Yield the conditions somebody has to wait for from now on, each once.

        What this walk has started tells itself when it has settled (see ``is_own``).
        """
        while self._waits:
            yield self._waits.pop()

    def take_skipped(self) -> Iterator[tuple[InstanceId, str]]:
        """Yield the actions skipped since the last call, with the cause."""
        while self._skipped:
            yield self._skipped.pop(0)

    def is_own(self, need: Need) -> bool:
        """Return whether *need* is met by an action of this walk settling, not by a wait."""
        return need.target in self._proving

    def performed(self, instance: InstanceId, *, settles: bool) -> None:
        """Take note that *instance* was performed; if it *settles*, it is not over yet."""
        if settles:
            self._state[instance] = State.SETTLING
            self._proving.add(instance)
        else:
            self._end(instance, State.DONE)
        self._tell_users(instance)

    def settled(self, instance: InstanceId) -> None:
        """Take note that *instance* is as it should be."""
        self._end(instance, State.DONE)
        self._tell_users(instance)

    def failed(self, instance: InstanceId) -> None:
        """Take note that *instance* failed; what depends on it is skipped."""
        self._end(instance, State.FAILED)
        self._skip_users(instance, f"{instance} failed")

    def met(self, need: Need) -> None:
        """Take note that a condition has been reached."""
        self._met.add(need)
        self._tell_users(need.target)

    def broken(self, need: Need, reason: str) -> None:
        """Take note that a condition will not be reached; who needs it is skipped."""
        for user, needed in self._users.get(need.target, ()):
            if needed == need and need in self._unmet[user]:
                self._skip(user, reason)

    def stop(self, reason: str) -> None:
        """Skip everything that was not started."""
        for instance, state in self._state.items():
            if state is State.WAITING:
                self._skip(instance, reason)

    def _end(self, instance: InstanceId, state: State) -> None:
        self._state[instance] = state
        self._open -= 1

    def _tell_users(self, target: InstanceId) -> None:
        for user, need in self._users.get(target, ()):
            self._look(user, (need,))

    def _skip_users(self, target: InstanceId, reason: str) -> None:
        for user, _ in self._users.get(target, ()):
            self._skip(user, reason)

    def _skip(self, instance: InstanceId, reason: str) -> None:
        todo = [instance]
        while todo:
            current = todo.pop()
            if self._state[current] is State.WAITING:
                self._end(current, State.SKIPPED)
                self._skipped.append((current, reason))
                todo.extend(user for user, _ in self._users.get(current, ()))

    def _look(self, instance: InstanceId, needs: Sequence[Need]) -> None:
        """Strike out those of its *needs* that are met; queue *instance* if it has no other."""
        if self._state[instance] is not State.WAITING:
            return
        unmet = self._unmet[instance]
        unmet.difference_update([need for need in needs if self._is_met(need)])
        if not unmet:
            heapq.heappush(self._ready, (self._position[instance], instance))

    def _is_met(self, need: Need) -> bool:
        state = self._state.get(need.target, State.DONE)
        if state not in (State.DONE, State.SETTLING):
            return False
        if need.condition is Condition.STARTED or need in self._met:
            return True
        if self.is_own(need) and state is State.DONE:
            return True
        if need not in self._asked:
            self._asked.add(need)
            self._waits.append(need)
        return False
