"""What is known of a layer once it is unpacked."""

from runtime.record import dataclass


@dataclass(frozen=True, slots=True)
class Applied:
    """What unpacking a layer came to. Names are without leading slash."""

    entries: int
    size: int
    """Bytes of all files, holes included."""
    devices: tuple[str, ...] = ()
    """Device nodes made: ``c 1:3 dev/null``."""
    dropped: tuple[str, ...] = ()
    """Extended attributes that were not kept: ``path name``."""
    implicit: tuple[str, ...] = ()
    """Folders the layer uses but does not describe; made root-owned, 0755."""
    opaque_root: bool = False
    """The layer hides everything below it, which overlayfs cannot say of a root."""
