"""Somebody who asks a published port for its page, again and again."""

import threading
import urllib.request
from dataclasses import dataclass, field


@dataclass
class Visitor:
    """Asks while the context lasts; each request is a connection of its own.

    ``answers`` counts the pages, ``failures`` are what went wrong with the others, in words.
    """

    port: int
    answers: int = 0
    failures: list[str] = field(default_factory=list)
    _leave: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> "Visitor":
        self._thread = threading.Thread(target=self._visit)
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._leave.set()
        self._thread.join()

    def _visit(self) -> None:
        while not self._leave.is_set():
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/", timeout=5) as page:
                    page.read()
                self.answers += 1
            except OSError as error:
                self.failures.append(repr(error))
