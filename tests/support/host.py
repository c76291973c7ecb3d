"""What a test host cannot do, whatever is installed on it: the only skips that CI accepts."""

from typing import NoReturn

import pytest

CANNOT = "this host cannot: "


def cannot(why: str) -> NoReturn:
    """Skip a test for a fact of the kernel, the machine or root's rights here.

    Not for what a package or a command could mend: there, skip plainly, and CI fails.
    """
    pytest.skip(CANNOT + why)
