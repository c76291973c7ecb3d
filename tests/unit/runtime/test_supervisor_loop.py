"""The order in which the loop does what is due."""

import os
import time

from runtime.supervisor.loop import IN, Loop


def test_what_was_there_before_a_timer_was_due_comes_before_it() -> None:
    """Though something else took so long that by now both are."""
    loop, said = Loop(), list[str]()
    (first, wakes), (second, ends) = os.pipe(), os.pipe()

    def busy(_events: int) -> None:
        loop.forget(first)
        os.write(ends, b"x")
        time.sleep(0.02)

    def ended(_events: int) -> None:
        said.append("ended")
        timer.cancel()
        loop.stop()

    def due() -> None:
        said.append("due")
        loop.stop()

    loop.watch(first, IN, busy)
    loop.watch(second, IN, ended)
    os.write(wakes, b"x")
    timer = loop.call_later(0.01, due)
    loop.run()
    loop.close()
    for fd in (first, second, wakes, ends):
        os.close(fd)
    assert said == ["ended"]


def test_timers_run_in_the_order_they_are_due() -> None:
    loop, said = Loop(), list[int]()
    for number in (3, 1, 2):
        loop.call_later(number / 1000, lambda n=number: said.append(n))  # type: ignore[misc]
    loop.call_later(0.005, loop.stop)
    loop.run()
    loop.close()
    assert said == [1, 2, 3]
