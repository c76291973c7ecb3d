"""The command as a user runs it, in a world of its own.

In a fork of the test, mostly: see `tests.support.forks`. What is about start-up, about standard
streams and signals, or about several at once, starts the process that a user would.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.forks import import_product, in_fork
from tests.support.manifests import HEAD, document, sleeper

COMMAND = [sys.executable, "-c", "from provider.cli.app import main; main()"]


@dataclass(frozen=True)
class Bayplan:
    """Runs ``bayplan --root FOLDER ...``; without a folder, in the default world."""

    folder: Path | None

    @property
    def environment(self) -> dict[str, str]:
        world = {"BAYPLAN_ROOT": str(self.folder)} if self.folder else {}
        return os.environ | world | {"PYTHONPATH": os.getcwd()}

    @property
    def command(self) -> list[str]:
        return COMMAND

    def __call__(
        self, *words: str, stdin: str | None = None, code: int | None = 0, timeout: float = 120
    ) -> subprocess.CompletedProcess[str]:
        """Run a verb; the exit code must be *code*, if one is given."""
        done = self._run(words, stdin, timeout)
        if code is not None:
            said = f"$ bayplan {' '.join(words)}\n{done.stdout}\n{done.stderr}"
            assert done.returncode == code, f"exit code {done.returncode}\n{said}"
        return done

    def _run(
        self, words: tuple[str, ...], stdin: str | None, timeout: float
    ) -> subprocess.CompletedProcess[str]:
        if threading.active_count() > 1:  # one of them may hold a lock, which a fork never gets
            return self._run_process(words, stdin, timeout)
        _prepare()
        from provider.cli import app

        ended = in_fork(
            lambda: app.run([*words]), stdin=stdin, env=self.environment, timeout=timeout
        )
        return subprocess.CompletedProcess([*words], *ended)

    def _run_process(
        self, words: tuple[str, ...], stdin: str | None, timeout: float
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self.command, *words],
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            env=self.environment,
            timeout=timeout,
            check=False,
        )

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start a verb and return while it runs."""
        return subprocess.Popen(
            [*self.command, *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.environment,
        )

    def json(self, *words: str, stdin: str | None = None, code: int | None = 0) -> Any:
        """Run a verb with ``-o json`` and return its one document."""
        return json.loads(self(*words, "-o", "json", stdin=stdin, code=code).stdout)

    def apply(self, manifest: str, *words: str, code: int | None = 0) -> Any:
        """Apply a manifest given as text; returns the report."""
        return self.json("apply", "-f", "-", *words, stdin=manifest, code=code)

    def plan(self, manifest: str, *words: str, code: int | None = 0) -> Any:
        """Plan a manifest given as text; returns the plan."""
        return self.json("plan", "-f", "-", *words, stdin=manifest, code=code)

    def delete(self, project: str, *words: str) -> Any:
        """Delete a project with its volumes; returns the report."""
        return self.json("delete", "-p", project, "--delete-volumes", *words)

    def clear(self) -> None:
        """Take away what a failed test has left, as well as the product can."""
        for container in self.json("ps", "-a", code=None):
            self("rm", "-f", "--override", container["id"], code=None)
        projects = Path(self.folder / "lib" if self.folder else "/var/lib/bayplan") / "projects"
        found = list(projects.iterdir()) if projects.is_dir() else []
        for project in found * 2:  # one may lend to another
            self("delete", "-p", project.name, "--delete-volumes", code=None)
        self("doctor", "--mend", code=None)


@functools.cache
def _prepare() -> None:
    """Have here, once, what the product makes once in each process: validators, decoders."""
    import_product()
    from provider.manifest.load import load

    kinds = [document("Config", "x", "{data: {a: b}}")]
    kinds += [document("Secret", "x", "{data: {a: {fromEnv: A}}}")]
    kinds += [document(kind, "x", "{}") for kind in ("Network", "Volume")]
    box = "{container: {image: box, networks: [x]}}"
    kinds += [document(kind, "x", box) for kind in ("Service", "Job")]
    load(["-"], stdin="".join((HEAD, sleeper("x"), *kinds)).encode(), resolve_secrets=False)


class BayplanProcess(Bayplan):
    """The command in a process of its own, as it is installed."""

    def _run(
        self, words: tuple[str, ...], stdin: str | None, timeout: float
    ) -> subprocess.CompletedProcess[str]:
        return self._run_process(words, stdin, timeout)
