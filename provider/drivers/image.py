"""Images of this host's store."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from provider.drivers.failing import failing
from provider.drivers.passive import PassiveDriver, PassiveObserver
from provider.drivers.usage import in_use
from provider.engine.ledger import Entry
from provider.engine.ports import Context, Finding, Outcome
from provider.errors import ApplyError
from provider.model import specs
from provider.model.codec import decode
from provider.model.ids import InstanceId, Kind, ResourceId
from provider.model.plan import Action, Verb
from provider.model.resource import Deviation, Observed, Resource
from provider.model.tree import Tree
from runtime.container.recovery import sweep_images
from runtime.errors import ContainerError, ImageError
from runtime.image.inputkey import archive_key, debian_key, host_key
from runtime.image.mutate import Overrides
from runtime.image.store import ImageStore
from runtime.root import Root


class ImageObserver(PassiveObserver):
    """Finds images, and names their sources without building them."""

    kinds = frozenset({Kind.IMAGE})

    def __init__(self, root: Root) -> None:
        self._root = root
        self._store = ImageStore(root)

    def inputs(self, resource: Resource) -> Tree:
        """Return the identity of the image's source."""
        image = decode(specs.Image, resource.spec)
        overrides = _overrides(image.config)
        if image.host:
            return {"key": host_key(image.host.programs, image.host.files, overrides)}
        if image.debian:
            built = image.debian
            return {"key": debian_key(built.packages, built.suite, built.variant, overrides)}
        if image.archive:
            try:
                source = image.archive
                cache = self._store.key_cache
                key = archive_key(source.path, source.reference, overrides, cache=cache)
                return {"key": key}
            except ImageError:
                # Missing now; preflight says so where it matters.
                return {"key": ""}
        return {}

    def observe(self, project: str, entries: Mapping[InstanceId, Entry]) -> Iterable[Observed]:
        """Yield every recorded image, with a deviation if it left the store."""
        for entry in entries.values():
            if entry.effective is None or self._has(entry.object_id):
                yield entry.observed(status={"digest": entry.object_id})
                continue
            lost = Deviation(
                "kernel.image",
                recorded=entry.object_id,
                actual="missing",
                cause=f"image {entry.object_id} is not in the store any more",
                consequence="replace",
            )
            yield entry.observed(deviations=(lost,))

    def preflight(self, actions: Sequence[Action]) -> Iterable[Finding]:
        """See that what images are made of is there, and that nobody else needs what goes."""
        yield from in_use(self._root, actions)
        for action in actions:
            if action.verb is Verb.DELETE or not action.after:
                continue
            for problem in _missing(_decoded(action.after)):
                yield Finding(problem, action.id, refusal=True)

    def _has(self, digest: str) -> bool:
        try:
            self._store.config(digest)  # which its manifest names
        except ContainerError:
            return False
        return True


class ImageDriver(ImageObserver, PassiveDriver):
    """Builds and forgets images."""

    def perform(self, action: Action, context: Context) -> Outcome:
        """Make the image the spec describes; its digest is its object id."""
        name = _tag(action.id.resource)
        if action.verb is Verb.DELETE:
            with failing():
                self._store.untag(name)
            return Outcome("", {})
        after = action.after or {}
        image = _decoded(after)
        with failing(retryable=image.debian is not None):
            digest = self._build(image, name, context)
            config = self._store.config(digest)
            self._store.layers(digest)
        record: Tree = {
            "digest": digest,
            "config": {
                "entrypoint": list(config.entrypoint),
                "command": list(config.command),
                "env": dict(config.env),
                "workdir": config.workdir,
                "user": config.user,
                "stopSignal": config.stop_signal,
                "labels": dict(config.labels),
            },
        }
        return Outcome(digest, after, status={"digest": digest}, record=record)

    def finish(self, context: Context) -> Mapping[InstanceId, ApplyError]:
        """Sweep what no image name and no container needs any more."""
        with suppress(ContainerError, OSError):  # the next apply sweeps again
            sweep_images(self._root)
        return {}

    def _build(self, image: specs.Image, name: str, context: Context) -> str:
        overrides = _overrides(image.config)
        if image.host:
            return self._store.build_host(
                image.host.programs,
                image.host.files,
                overrides,
                name=name,
                progress=context.progress,
            )
        if image.debian:
            return self._store.build_debian(
                image.debian.packages,
                image.debian.suite,
                image.debian.variant,
                overrides,
                name=name,
                progress=context.progress,
            )
        assert image.archive is not None, "the schema asks for exactly one source"
        return self._store.load_archive(
            image.archive.path,
            image.archive.reference,
            overrides,
            name=name,
            progress=context.progress,
        )


def _decoded(effective: Tree) -> specs.Image:
    given = {key: effective[key] for key in ("archive", "host", "debian", "config")}
    return decode(specs.Image, given)


def _missing(image: specs.Image) -> Iterable[str]:
    """Tell what stands in the way of building *image*, as far as that shows beforehand."""
    from runtime.image import debian, host  # only where an image is to be built

    if image.archive and not Path(image.archive.path).exists():
        yield f"no archive at {image.archive.path}"
    if image.host:
        yield from host.missing(image.host.programs, image.host.files)
    if image.debian:
        try:
            debian.check(image.debian.packages, image.debian.variant)
        except ContainerError as error:
            yield str(error)


def _tag(resource: ResourceId) -> str:
    return f"{resource.project}/{resource.name}"


def _overrides(config: specs.ImageConfig) -> Overrides:
    return Overrides(
        entrypoint=config.entrypoint,
        command=config.command,
        env=config.env,
        workdir=config.workdir,
        user=config.user,
        stop_signal=config.stop_signal,
        labels=config.labels,
    )
