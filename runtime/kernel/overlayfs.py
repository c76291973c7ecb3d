"""By which attribute overlayfs knows an opaque folder.

Root of a user namespace cannot set ``trusted`` ones; there overlayfs is mounted with ``userxattr``
and reads ``user`` ones instead. A whiteout, a character device 0:0, it may make like any root.

Source: Documentation/filesystems/overlayfs.rst.
"""

import functools

from runtime.kernel.procfs import is_confined


@functools.cache
def uses_user_xattrs() -> bool:
    """Tell whether the overlays of this process are mounted with ``userxattr``."""
    return is_confined()


def opaque_xattr() -> str:
    """Return the attribute that is ``y`` on a folder which hides those below it."""
    return "user.overlay.opaque" if uses_user_xattrs() else "trusted.overlay.opaque"
