"""buildah with ``--isolation oci --runtime``: each RUN of a build is a container."""

from pathlib import Path

from tests.conformance.checks import Engine, run_checks
from tests.conformance.outcome import Outcomes
from tests.conformance.podman import IMAGE, environment, make_image

NAME = "buildah --isolation oci"
PEER = "crun"
FEWEST = 3

_FILE = f"""FROM {IMAGE}
ARG word=none
RUN echo $word > /said && id -u > /user
USER 5:6
WORKDIR /tmp
RUN id -u > mine && pwd >> mine
USER root
RUN --mount=type=tmpfs,target=/scratch touch /scratch/x && ls /scratch > /listed
RUN grep CapEff /proc/self/status > /capabilities
"""


def fetch() -> None:
    """Have nothing: buildah is installed."""


def outcomes(runtime: str, scratch: Path) -> Outcomes:
    """Run all cases."""
    env = environment(runtime, scratch)
    make_image(env, scratch)
    (scratch / "context").mkdir()
    env["BUILDAH_ISOLATION"] = "oci"
    env["BUILDAH_RUNTIME"] = runtime
    env["CONTEXT"] = str(scratch / "context")
    return run_checks(Engine(["buildah"], env, scratch), (bud, bud_that_fails, run))


def bud(engine: Engine) -> None:
    _bud(engine, _FILE, "--build-arg", "word=hello")
    engine.call("from", "--name", "made", "built")
    files = ("/said", "/user", "/tmp/mine", "/listed")
    engine.says(r"hello\s0\s5\s/tmp\sx", "run", *_how(engine), "made", "cat", *files)


def bud_that_fails(engine: Engine) -> None:
    output = _bud(engine, f"FROM {IMAGE}\nRUN exit 3\n", code=3)
    assert "exit status 3" in output, output


def run(engine: Engine) -> None:
    how = _how(engine)
    engine.says("outside", "run", *how, "made", "cat", given="outside")
    engine.says("b", "run", *how, "-e", "A=b", "made", "sh", "-c", "echo $A")
    engine.call("run", *how, "made", "sh", "-c", "exit 9", code=9)
    script = "sh -c 'kill -TERM $$'; exit $?"
    engine.call("run", *how, "made", "sh", "-c", script, code=143)


def _how(engine: Engine) -> tuple[str, ...]:
    return ("--isolation", "oci", "--runtime", engine.env["BUILDAH_RUNTIME"])


def _bud(engine: Engine, text: str, *words: str, code: int = 0) -> str:
    context = engine.env["CONTEXT"]
    (Path(context) / "Containerfile").write_text(text)
    return engine.call("bud", *_how(engine), "-t", "built", *words, context, code=code)
