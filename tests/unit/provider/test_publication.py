"""Which of a container's addresses published traffic goes to."""

from provider.drivers.publication import addresses_of
from runtime.network.model import Lease, Network, Record


def record(number, interface, *, internal=False):
    name = f"n{number}"
    subnet, gateway = f"10.9.{number}.0/24", f"10.9.{number}.1"
    network = Network(name, number, f"bpn{number}", subnet, gateway, internal, mtu=1500)
    return Record(network, (Lease("c1", f"10.9.{number}.2", interface, f"bpv{number}"),))


def test_it_is_that_on_the_first_network_that_is_not_internal():
    records = [record(10, "eth10"), record(2, "eth2"), record(0, "eth0", internal=True)]
    assert addresses_of(records) == {"c1": "10.9.2.2"}
    assert addresses_of(reversed(records)) == {"c1": "10.9.2.2"}
