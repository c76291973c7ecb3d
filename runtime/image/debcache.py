"""What earlier Debian builds leave for later ones: downloaded packages and bare roots.

Both lie in ``images/debs`` as files that are never changed; `runtime.image.gc` bounds them. A build
gets copies and links in its own working folder, so a sweep cannot take away what it uses.
"""

import contextlib
import os
import shlex
import shutil
from pathlib import Path

_ARCHIVES = "var/cache/apt/archives"


class DebCache:
    """The files in *folder*, used from the working folder *work*."""

    def __init__(self, folder: Path, work: Path) -> None:
        self._folder = folder
        self._given = work / "given"
        self._taken = work / "taken"
        self._base = work / "base.tar"
        self._folder.mkdir(0o700, exist_ok=True)

    def hooks(self, variant: str) -> list[str]:
        """Return mmdebstrap's options that use and fill the cache (its own hooks, no shell)."""
        self._taken.mkdir(exist_ok=True)
        # Nothing runs after extraction where nothing is installed.
        last = "extract" if variant == "extract" else "customize"
        options = [f"--{last}-hook=sync-out /{_ARCHIVES} {shlex.quote(str(self._taken))}"]
        if self._base.exists():
            options.append(f"--setup-hook=tar-in {shlex.quote(str(self._base))} /")
        options.append(f"--setup-hook=sync-in {shlex.quote(str(self._give()))} /")
        return options

    def use_base(self, key: str) -> bool:
        """Start from the bare root kept as *key*; say whether there is one."""
        try:
            os.link(self._folder / f"{key}.tar", self._base)
            os.utime(self._base)
        except FileNotFoundError:
            return False
        return True

    def keep_base(self, key: str, layer: Path) -> None:
        """Keep the tar *layer* as the bare root *key*, without a copy."""
        with contextlib.suppress(FileExistsError):
            os.link(layer, self._folder / f"{key}.tar")

    def keep_packages(self) -> None:
        """Keep what was downloaded."""
        for deb in self._taken.glob("*.deb"):
            if not (self._folder / deb.name).exists():
                deb.rename(self._folder / deb.name)

    def _give(self) -> Path:
        """Return a folder with all packages, as a tree to be laid over the new root."""
        archives = self._given
        for part in ("", *_ARCHIVES.split("/")):
            archives = archives / part
            archives.mkdir(exist_ok=True)
            archives.chmod(0o755)
        for deb in self._folder.glob("*.deb"):
            # No links: tar gives up on a file that another build links or unlinks meanwhile.
            if not (archives / deb.name).exists():
                with contextlib.suppress(FileNotFoundError):
                    shutil.copyfile(deb, archives / deb.name)
        return self._given
