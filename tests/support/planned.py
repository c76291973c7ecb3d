"""A project in memory to plan, and its plan."""

from tests.support import builders as b

GROUND = (b.image(), b.network(), b.volume(), b.config(), b.secret(values={"password": "x"}))


SECRETS = {"db": {"password": "x"}}


def project(*resources, ground=GROUND, **more):
    return b.desired(*ground, *resources, secrets=SECRETS, **more)


def only(plan, instance):
    (action,) = (a for a in plan.pending if a.id == instance)
    return action
