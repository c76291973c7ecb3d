"""Gives tests of others more time where the machine is emulated: a second of theirs is ten."""

import socket

_settimeout = socket.socket.settimeout


def _patient(self: socket.socket, seconds: float | None) -> None:
    _settimeout(self, seconds and 10 * seconds)


socket.socket.settimeout = _patient  # type: ignore[method-assign] # in their processes only
