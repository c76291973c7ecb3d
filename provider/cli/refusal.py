"""What the operating system has against us, in words for the operator."""

import errno

from provider.errors import ProviderError

_MENDABLE = frozenset(
    {
        *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO),
        *(errno.ENOTDIR, errno.EISDIR, errno.ENOENT, errno.EMFILE, errno.ENFILE, errno.ENOMEM),
    }
)
"""What an operator can mend; any other error of the operating system is a bug of ours."""


def refusal(error: OSError) -> ProviderError | None:
    """Return *error* as people read it, with the file it is about; None if it is a bug of ours."""
    if error.errno not in _MENDABLE:
        return None
    hint = ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        hint = "free space there (`bayplan rm -f` works on a full disk) and do the same again"
    if error.filename is None:
        return ProviderError(str(error), hint=hint)
    return ProviderError(f"{error.filename}: {error.strerror}", hint=hint)
