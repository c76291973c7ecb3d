"""What the limits of a manifest come to in the runtime's words. Pure."""

import pytest

from provider.drivers.container_config import resources
from provider.model import specs
from provider.model.codec import encode
from runtime.cgroup.v1.controllers import CONTROLLERS as V1
from runtime.cgroup.v2.controllers import CONTROLLERS as V2


@pytest.mark.parametrize(("weight", "bfq"), [(1, 1), (100, 100), (500, 500), (10000, 1000)])
def test_the_weight_of_io_is_the_one_that_was_written(weight: int, bfq: int) -> None:
    """100 is neutral, in every file of every version."""
    limits = specs.Resources(io=specs.IoLimits(weight))
    container = specs.ContainerSpec(specs.ImageRef("it"), resources=limits)
    found = resources(encode(container))
    files = {
        version: {s.file: s.value for c in controllers for s in c.settings(found)}
        for version, controllers in ((1, V1.values()), (2, V2.values()))
    }
    assert files[2]["io.weight"] == found.unified["io.weight"] == f"default {weight}"
    assert files[2]["io.bfq.weight"] == f"default {bfq}"
    assert files[1]["blkio.bfq.weight"] == str(bfq)
