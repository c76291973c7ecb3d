"""How much one layer may ask of us. A layer is input from strangers."""

from runtime.record import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Generous for real images, far below what would hurt a host."""

    entries: int = 2_000_000
    bytes: int = 256 << 30
    """Sum of the sizes of all files, holes included, and of the tar itself."""
    path: int = 4096
    """Bytes of one name (PATH_MAX)."""
    depth: int = 256
    """Folders inside each other, after following symbolic links."""
    header: int = 1 << 20
    """Bytes of one extended header (pax or GNU long name), and of one sparse map."""


DEFAULT_LIMITS = Limits()
