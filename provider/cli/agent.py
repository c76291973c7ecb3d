"""`bayplan agent`: what the host's boot and shutdown mean for containers."""

import sys
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from provider.cli import options
from provider.cli.output import Output, plain, show, silence
from provider.cli.session import Session, projects
from provider.errors import ProviderError

if TYPE_CHECKING:
    from provider.engine.ports import Reviver
    from provider.model.events import ActionEvent
    from provider.planning.report import Report
    from runtime.container.config import ContainerConfig

_LOOK_EVERY_S = 0.2
_SAY = threading.Lock()


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    app.command()(agent)


def agent(
    context: typer.Context,
    shutdown: Annotated[
        bool, typer.Option("--shutdown", help="The host goes down: end what runs, in order.")
    ] = False,
    wait: Annotated[
        str, typer.Option("--wait", metavar="DURATION", help="For mounts and addresses.")
    ] = "90s",
    lock_timeout: options.LockTimeout = "10s",
    output: Annotated[Output, typer.Option("-o", "--output", help="Format of the report.")] = (
        Output.TEXT
    ),
) -> int:
    """Bring back what ran before the host was started; exit 1 if not all of it could be.

    Of projects: what the last apply that got through has left running, each container after what
    it depends on. Others come back by their restart policy: always, or unless-stopped. What was
    stopped by hand stays so. What uses secrets is left to an apply: their values are on no disk.
    Nothing is changed or removed; done twice, it does nothing. bayplan.service does it at boot.

    \b
    Examples:
      bayplan agent
      bayplan agent --shutdown
    """
    session: Session = context.obj
    session.require_root("agent")
    if not session.root.state.exists():
        return 0  # nothing was ever made here
    work = _Work(
        session,
        shutdown=shutdown,
        lock_timeout_s=options.duration(lock_timeout),
        wait_s=options.duration(wait),
    )
    if shutdown:
        work.take_down()
    else:
        work.bring_back()
    return work.report(output)


class _Work:
    """One boot or one shutdown, and what came of it."""

    def __init__(
        self, session: Session, *, shutdown: bool, lock_timeout_s: float, wait_s: float
    ) -> None:
        self.session, self.shutdown = session, shutdown
        self.lock_timeout_s, self.wait_s = lock_timeout_s, wait_s
        self.reports: dict[str, Report] = {}
        self.containers: list[dict[str, Any]] = []
        self.problems: list[str] = []

    def bring_back(self) -> None:
        """Start what ran: all projects at once, and beside them what belongs to none."""
        from provider.drivers import single_boot
        from provider.engine.crew import all_at_once
        from runtime.container.containers import Containers
        from runtime.container.recovery import recover
        from runtime.network import observe as network

        root = self.session.root
        containers = Containers(root)
        for mend in (lambda: recover(root), containers.reap, lambda: network.repair(root)):
            self._attempt(mend)
        done = threading.Event()

        def bring_back_projects() -> None:
            try:
                all_at_once(
                    *(self._each_project(name, self._boot) for name in projects(self.session))
                )
            finally:
                done.set()

        all_at_once(
            bring_back_projects,
            lambda: single_boot.bring_back(
                containers, self._told, wait_s=self.wait_s, projects_done=done
            ),
        )
        self._attempt(self._await_addresses)

    def take_down(self) -> None:
        """End what runs: projects in the order of their graphs, then all the rest.

        Before them what is in namespaces of theirs.
        """
        from provider.drivers import single_boot
        from provider.engine.crew import all_at_once
        from runtime.container.containers import Containers
        from runtime.image.store import ImageStore

        containers = Containers(self.session.root)
        single_boot.take_down_sharers(containers, self._told)
        all_at_once(*(self._each_project(name, self._end) for name in projects(self.session)))
        single_boot.take_down(containers, self._told)
        # Else the next boot takes them for what a loss of power has left, and unpacks them again.
        self._attempt(ImageStore(self.session.root).unpacked.settle_all)

    def report(self, output: Output) -> int:
        """Show what came of it, and return the exit code."""
        from provider.planning.document import report_json

        failed = bool(self.problems) or any(c["error"] for c in self.containers)
        failed = failed or any(r.failed or r.warnings for r in self.reports.values())
        if output is not Output.TEXT:
            document = {
                "failed": failed,
                "projects": [report_json(report) for _, report in sorted(self.reports.items())],
                "containers": self.containers,
                "problems": self.problems,
            }
            show(document, output)
        return 1 if failed else 0

    # -- projects

    def _boot(self, name: str) -> "Report":
        from provider.engine.boot import bring_back
        from provider.engine.observe import observe
        from provider.planning.boot import make_boot_plan

        driver = self._driver()
        world = observe(self.session.root.state, name, (driver,), held=True)
        plan = make_boot_plan(name, world)
        for warning in plan.warnings:
            self._say(f"! {name}: {warning}")
        return bring_back(plan, world, driver, wait_s=self.wait_s, emit=self._emit("started"))

    def _end(self, name: str) -> "Report":
        from provider.engine.boot import take_down
        from provider.engine.observe import observe
        from provider.planning.boot import make_shutdown_plan

        driver = self._driver()
        world = observe(self.session.root.state, name, (driver,), held=True)
        plan = make_shutdown_plan(name, world)
        return take_down(plan, world, driver, emit=self._emit("ended"))

    def _driver(self) -> "Reviver":
        from provider.drivers.container import ContainerDriver

        return ContainerDriver(self.session.root)

    def _each_project(self, name: str, act: "Callable[[str], Report]") -> Callable[[], None]:
        from provider.cli.planning import who
        from provider.engine.lock import project_lock
        from runtime.errors import ContainerError

        def work() -> None:
            lock = project_lock(
                self.session.root.state,
                name,
                owner=who(),
                reason="agent",
                timeout_s=self.lock_timeout_s,
            )
            try:
                with lock:
                    self.reports[name] = act(name)
            except (ProviderError, ContainerError, OSError) as error:
                # The others have nothing to do with it.
                self._problem(f"project {name}: {error}")

        return work

    # -- the host

    def _attempt(self, work: Callable[[], object]) -> None:
        """Do it; if the host or a record resists, what can be brought back is nevertheless."""
        from runtime.errors import ContainerError

        try:
            work()
        except (ContainerError, OSError) as error:
            self._problem(str(error))

    def _await_addresses(self) -> None:
        """Wait for addresses that ports are published on: these are open as soon as they are."""
        from runtime.container.revival import missing_addresses

        deadline = time.monotonic() + self.wait_s
        while missing := [*missing_addresses(self.session.root)]:
            if time.monotonic() >= deadline:
                for owner, port in missing:
                    self._problem(f"port {port} of {owner}: this host does not have that address")
                return
            time.sleep(_LOOK_EVERY_S)

    # -- telling

    def _told(
        self, config: "ContainerConfig", error: Exception | None, warnings: tuple[str, ...] = ()
    ) -> None:
        word = "ended" if self.shutdown else "started"
        self.containers.append(
            {"id": config.id, "name": config.name, "error": None if error is None else str(error)}
        )
        for warning in warnings:
            self._say(f"! {config.name}: {warning}")
        self._say(f"x {config.name}: {error}" if error else f"~ {config.name} {word}")

    def _emit(self, past: str) -> "Callable[[ActionEvent], None]":
        from provider.model.events import Phase

        def emit(event: "ActionEvent") -> None:
            who = f"{event.id.resource.project}: {event.id}"
            if event.phase is Phase.OK:
                self._say(f"~ {who} {past} in {event.duration_s:.1f} s")
            elif event.phase in (Phase.FAILED, Phase.SKIPPED):
                mark = "x" if event.phase is Phase.FAILED else "."
                self._say(f"{mark} {who} {event.phase}: {event.message}")
            for line in event.log_tail:
                self._say(f"    | {line}")

        return emit

    def _problem(self, text: str) -> None:
        self.problems.append(text)
        self._say(f"! {text}")

    def _say(self, text: str) -> None:
        with _SAY:
            try:
                print(plain(text), file=sys.stderr, flush=True)
            except OSError:  # nobody reads it: that ends nothing here
                silence(sys.stderr)
