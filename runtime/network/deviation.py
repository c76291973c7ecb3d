"""One root cause of the kernel being other than the records say, and what follows from it."""

from runtime.record import dataclass


@dataclass(frozen=True, slots=True)
class Deviation:
    """One root cause."""

    code: str
    """A word for programs; see the functions that make them in observe and table."""
    text: str
    """``link bpv3 is gone (veth removed)``"""
    network: str = ""
    """Id of the network concerned, if it is one."""
    container: str = ""
    """Id of the container concerned, if it is one."""
    owner: str = ""
    """Of publications, where one owner's are concerned."""
    consequences: tuple[str, ...] = ()
    """``port 8080/tcp of shop/web is closed``"""
    containers: tuple[str, ...] = ()
    """Ids of all containers that suffer."""
    owners: tuple[str, ...] = ()
    """Owners of all publications that suffer."""
