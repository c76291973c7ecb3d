"""What some programs need beside their libraries: an interpreter its standard library.

Each rule looks at where a program really is, asks the program itself where its parts are, and adds
them to the tree. What is only for development, documentation or tests stays out.
"""

import os
import re
import subprocess
from collections.abc import Callable, Iterable

from runtime.errors import ImageError
from runtime.image.hosttree import HostTree, Made
from runtime.image.tarentry import Kind

_ENV = {"PATH": "/usr/bin:/bin", "LC_ALL": "C"}
_TIMEOUT_S = 20.0
_PYTHON_LIBRARY = "import sysconfig; p = sysconfig.get_paths(); print(p['stdlib'], p['platstdlib'])"
_PYTHON_SKIPPED = {"test", "tests", "idlelib", "turtledemo", "tkinter", "ensurepip", "lib2to3"}
_PYTHON_SKIPPED |= {"pydoc_data", "site-packages", "dist-packages"}
_JAVA_SKIPPED = {"jmods", "man", "legal", "include", "demo", "sample", "docs", "src.zip"}


def add_parts(tree: HostTree, program: str) -> tuple[str, ...]:
    """Add what *program*, a real path, needs to work; return the files that came with it.

    Raises:
        ImageError: the program does not answer when asked for its parts.
    """
    name = os.path.basename(program)
    for pattern, rule in _RULES:
        if pattern.fullmatch(name):
            return tuple(rule(tree, program))
    return ()


def _python(tree: HostTree, program: str) -> Iterable[str]:
    # -I -S: the library of the interpreter itself, whatever environment we were called in.
    answer = _ask([program, "-I", "-S", "-c", _PYTHON_LIBRARY])
    for folder in sorted(set(answer.split())):
        yield from _library(tree, folder, _skip_python)


def _skip_python(name: str, is_folder: bool) -> bool:
    # Compiled modules stay: without them each start of a container compiles again, 0.1 s for
    # http.server. They stay valid, as files keep their times.
    if is_folder:
        return name in _PYTHON_SKIPPED or name.startswith("config-")
    return name.endswith((".opt-1.pyc", ".opt-2.pyc"))


def _perl(tree: HostTree, program: str) -> Iterable[str]:
    answer = _ask([program, "-e", r'print join "\n", @INC'])
    for folder in answer.splitlines():
        # The version's own folders and not those of installed modules (perl5, site_perl).
        if re.search(r"/perl(-base|/5\.\d+(\.\d+)?)$", folder) and os.path.isdir(folder):
            yield from _library(tree, folder, lambda name, _: name.endswith(".pod"))


def _java(tree: HostTree, program: str) -> Iterable[str]:
    home = os.path.dirname(os.path.dirname(program))
    if os.path.exists(f"{home}/lib/modules"):
        yield from _library(tree, home, lambda name, _: name in _JAVA_SKIPPED)


def _busybox(tree: HostTree, program: str) -> Iterable[str]:
    for applet in _ask([program, "--list"]).split():
        tree.make(f"/bin/{applet}", Made(Kind.SYMLINK, target=program))
    return ()


def _library(tree: HostTree, folder: str, skip: Callable[[str, bool], bool]) -> Iterable[str]:
    for path in tree.add_tree(folder, skip=skip):
        yield tree.add(path)


def _ask(command: list[str]) -> str:
    try:
        answer = subprocess.run(
            command,
            env=_ENV,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise ImageError(f"{command[0]}: cannot be asked for its parts: {error}") from error
    return answer.stdout


_RULES: tuple[tuple[re.Pattern[str], Callable[[HostTree, str], Iterable[str]]], ...] = (
    (re.compile(r"python3(\.\d+)?t?"), _python),
    (re.compile(r"perl(5\.\d+(\.\d+)?)?"), _perl),
    (re.compile(r"java"), _java),
    (re.compile(r"busybox(\.\w+)?"), _busybox),
)
