"""systemd, asked over D-Bus to start, change and stop a scope; the only importer of jeepney.

Nobody but `bayplan-oci --systemd-cgroup` comes here.

Source: org.freedesktop.systemd1(5).
"""

import os
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from runtime.cgroup.scope import Property
from runtime.errors import ConflictError, ContainerError, UnsupportedHostError

try:
    import jeepney
    from jeepney.io.blocking import DBusConnection, Proxy, open_dbus_connection
except ModuleNotFoundError:
    # Started without site, which finds packages where ours are not (an editable install).
    import site

    site.main()
    import jeepney
    from jeepney.io.blocking import DBusConnection, Proxy, open_dbus_connection

_JOB_S = 30.0
_MANAGER = jeepney.DBusAddress(
    "/org/freedesktop/systemd1",
    bus_name="org.freedesktop.systemd1",
    interface="org.freedesktop.systemd1.Manager",
)
_UNIT_EXISTS = "org.freedesktop.systemd1.UnitExists"
_NO_SUCH_UNIT = "org.freedesktop.systemd1.NoSuchUnit"


class _RefusedError(ContainerError):
    """systemd answered by an error, which is called *name*."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(text)
        self.name = name


def start_scope(unit: str, properties: Iterable[Property]) -> None:
    """Start a transient scope and wait until it has been.

    Raises:
        ConflictError: there is a unit of that name.
        ContainerError: systemd refuses a property, or the job fails.
        UnsupportedHostError: there is no systemd to ask.
    """
    with _connected() as manager:
        try:
            manager.do_job(
                "StartTransientUnit", "ssa(sv)a(sa(sv))", unit, "fail", [*properties], []
            )
        except _RefusedError as error:
            if error.name == _UNIT_EXISTS:
                raise ConflictError(f"{unit} exists already: it is another container's") from error
            raise


def set_properties(unit: str, properties: Iterable[Property]) -> None:
    """Change a running unit, not for longer than that.

    Raises:
        ContainerError: systemd refuses a property, or there is no such unit.
        UnsupportedHostError: there is no systemd to ask.
    """
    with _connected() as manager:
        manager.call("SetUnitProperties", "sba(sv)", unit, True, [*properties])


def stop_unit(unit: str) -> None:
    """Stop a unit and wait until it has been; fine if there is none.

    Raises:
        ContainerError: the job fails.
        UnsupportedHostError: there is no systemd to ask.
    """
    with _connected() as manager:
        try:
            manager.do_job("StopUnit", "ss", unit, "replace")
        except _RefusedError as error:
            if error.name != _NO_SUCH_UNIT:
                raise


class _Manager:
    """systemd's manager object at the end of one connection."""

    def __init__(self, connection: DBusConnection) -> None:
        self._connection = connection

    def call(
        self, method: str, signature: str | None = None, *arguments: object
    ) -> tuple[object, ...]:
        message = jeepney.new_method_call(_MANAGER, method, signature, arguments)
        reply = self._connection.send_and_get_reply(message, timeout=_JOB_S)
        if reply.header.message_type == jeepney.MessageType.error:
            name = str(reply.header.fields.get(jeepney.HeaderFields.error_name))
            words = reply.body[0] if reply.body else name
            raise _RefusedError(name, f"systemd refuses {method}: {words}")
        body: tuple[object, ...] = reply.body
        return body

    def do_job(self, method: str, signature: str, unit: str, *arguments: object) -> None:
        """Call what begins a job, and wait for its end."""
        # Asked for before: a job may end before its name has reached us.
        rule = jeepney.MatchRule(
            type="signal",
            interface="org.freedesktop.systemd1.Manager",
            member="JobRemoved",
            path=_MANAGER.object_path,
        )
        Proxy(jeepney.message_bus, self._connection).AddMatch(rule)
        ended: deque[jeepney.Message] = deque()
        with self._connection.filter(rule, queue=ended):
            self.call("Subscribe")
            (job,) = self.call(method, signature, unit, *arguments)
            while True:
                message = self._connection.recv_until_filtered(ended, timeout=_JOB_S)
                _, path, _, result = message.body
                if path == job:
                    break
        if result not in ("done", "skipped"):
            raise ContainerError(f"systemd's {method} of {unit} ended with {result}")


@contextmanager
def _connected() -> Iterator[_Manager]:
    if not os.path.isdir("/run/systemd/system"):  # sd_booted(3)
        raise UnsupportedHostError("cgroup manager systemd: this host is not run by systemd")
    try:
        connection = open_dbus_connection("SYSTEM")
    except (OSError, jeepney.AuthenticationError) as error:
        raise UnsupportedHostError(
            f"cgroup manager systemd: no D-Bus to reach it: {error}"
        ) from error
    with connection:
        try:
            yield _Manager(connection)
        except TimeoutError as error:
            raise ContainerError(f"systemd did not answer within {_JOB_S:g} s") from error
        except ConnectionError as error:
            raise ContainerError(f"systemd's D-Bus was lost: {error}") from error
