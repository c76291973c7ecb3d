"""The state of package archives: their release files, which change when any package does."""

import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from runtime.errors import ImageError
from runtime.image.aptsource import AptSource
from runtime.image.digest import digest_of

_APT_HELPER = "/usr/lib/apt/apt-helper"
_TIMEOUT_S = 60.0


def fetch_releases(sources: Sequence[AptSource]) -> list[tuple[str, str]]:
    """Return address and digest of each release file of *sources*, some 100 kB in all.

    They are fetched by apt's own means, so proxies and every scheme of the host's apt work. What is
    in them is not believed, only compared: apt checks signatures when it installs.

    Raises:
        ImageError: an archive cannot be reached.
    """
    found = []
    with tempfile.TemporaryDirectory(prefix="bayplan-release-") as folder:
        for number, uri in enumerate(_addresses(sources)):
            target = Path(folder) / str(number)
            try:
                subprocess.run(
                    [_APT_HELPER, "download-file", uri, str(target)],
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    timeout=_TIMEOUT_S,
                    check=True,
                )
                found.append((uri, digest_of(target.read_bytes())))
            except (OSError, subprocess.SubprocessError) as error:
                raise ImageError(f"{uri}: cannot be fetched: {error}") from error
    return found


def _addresses(sources: Sequence[AptSource]) -> list[str]:
    found = set()
    for source in sources:
        for uri in source.uris:
            for suite in source.suites:
                # A suite that ends in a slash is a plain path, without the usual folders.
                place = suite if suite.endswith("/") else f"dists/{suite}/"
                found.add(f"{uri.rstrip('/')}/{place}InRelease")
    return sorted(found)
