"""Calling other programs."""

import subprocess
from pathlib import Path


def call(
    *command: str, check: bool = True, env: dict[str, str] | None = None, cwd: Path | None = None
) -> None:
    """Run a command; its output is shown only if it fails, which ends the run."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env, cwd=cwd)
    if check and done.returncode:
        raise SystemExit(f"{' '.join(command)}: {done.stdout}{done.stderr}")
