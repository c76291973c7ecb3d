"""How long to go on trying."""

import time


class Deadline:
    """A point in time, from now on; and pauses that grow, for what the kernel gives no event of."""

    def __init__(self, timeout_s: float) -> None:
        self._end = time.monotonic() + timeout_s
        self._pause_s = 0.0005

    @property
    def remaining_s(self) -> float:
        """Seconds left, never below zero."""
        return max(0.0, self._end - time.monotonic())

    @property
    def is_over(self) -> bool:
        """Tell whether it has passed."""
        return time.monotonic() >= self._end

    def pause(self) -> None:
        """Sleep a little, each time longer up to 50 ms, not beyond the end."""
        time.sleep(min(self._pause_s, self.remaining_s))
        self._pause_s = min(self._pause_s * 2, 0.05)
