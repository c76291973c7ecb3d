"""Images as immutable values: descriptor, manifest, index and configuration, and their JSON.

Nothing here reads or writes; `runtime.image.mutate` derives new values from old ones. Docker's
media types are accepted beside the OCI ones, because registries and archives carry both.

Source: OCI image-spec 1.1 (descriptor.md, manifest.md, image-index.md, config.md); Docker image
manifest version 2, schema 2.
"""

import json
import os
from collections.abc import Mapping
from typing import Any

from runtime.errors import ImageError
from runtime.image.digest import check_digest, digest_of
from runtime.record import dataclass, field

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
INDEX_TYPES = frozenset({OCI_INDEX, DOCKER_INDEX})

REF_NAME = "org.opencontainers.image.ref.name"

_LARGEST = 2**63 - 1
"""A size is an int64 (descriptor.md)."""

_MACHINES = {
    "x86_64": ("amd64", None),
    "aarch64": ("arm64", "v8"),
    "armv7l": ("arm", "v7"),
    "armv6l": ("arm", "v6"),
    "i686": ("386", None),
    "ppc64le": ("ppc64le", None),
    "riscv64": ("riscv64", None),
    "s390x": ("s390x", None),
}


@dataclass(frozen=True, slots=True)
class Platform:
    """What a manifest was made for, in Go's words."""

    architecture: str
    os: str = "linux"
    variant: str | None = None

    @classmethod
    def host(cls) -> "Platform":
        """Return this machine's."""
        machine = os.uname().machine
        architecture, variant = _MACHINES.get(machine, (machine, None))
        return cls(architecture, "linux", variant)

    @classmethod
    def from_json(cls, tree: Any) -> "Platform":
        """Decode one ``platform`` object."""
        data = _mapping(tree, "platform")
        return cls(
            _text(data, "architecture"), _text(data, "os"), _optional_text(data, "variant") or None
        )

    def to_json(self) -> dict[str, str]:
        """Encode; an absent variant is left out."""
        variant = {"variant": self.variant} if self.variant else {}
        return {"architecture": self.architecture, "os": self.os, **variant}

    def runs(self, image: "Platform") -> bool:
        """Say whether a machine of this platform can run *image*."""
        return (self.os, self.architecture) == (image.os, image.architecture) and (
            image.variant is None or self.variant is None or image.variant <= self.variant
        )


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A typed, sized pointer to content; *size* in bytes."""

    media_type: str
    digest: str
    size: int
    platform: Platform | None = None
    annotations: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, media_type: str, data: bytes) -> "Descriptor":
        """Return the descriptor of *data*."""
        return cls(media_type, digest_of(data), len(data))

    @classmethod
    def from_json(cls, tree: Any) -> "Descriptor":
        """Decode; an absent or malformed member is an ImageError."""
        data = _mapping(tree, "descriptor")
        size = data.get("size")
        if not isinstance(size, int) or not 0 <= size <= _LARGEST:
            raise ImageError(f"descriptor has no valid size: {str(size)[:40]}")
        platform = data.get("platform")
        return cls(
            media_type=_text(data, "mediaType"),
            digest=check_digest(_text(data, "digest")),
            size=size,
            platform=None if platform is None else Platform.from_json(platform),
            annotations=_text_map(data, "annotations"),
        )

    def to_json(self) -> dict[str, Any]:
        """Encode; empty members are left out."""
        tree: dict[str, Any] = {
            "mediaType": self.media_type,
            "digest": self.digest,
            "size": self.size,
        }
        if self.platform is not None:
            tree["platform"] = self.platform.to_json()
        if self.annotations:
            tree["annotations"] = dict(sorted(self.annotations.items()))
        return tree


@dataclass(frozen=True, slots=True)
class Manifest:
    """One image: its configuration, and its layers lowest first."""

    config: Descriptor
    layers: tuple[Descriptor, ...]
    media_type: str = OCI_MANIFEST
    annotations: dict[str, str] = field(default_factory=dict)

    @classmethod
    def from_bytes(cls, data: bytes) -> "Manifest":
        """Decode a manifest document."""
        tree = parse_document(data, "image manifest")
        if tree.get("schemaVersion") != 2:
            raise ImageError(
                f"image manifest has schema version {tree.get('schemaVersion')!r}, only 2 is known"
            )
        return cls(
            config=Descriptor.from_json(tree.get("config")),
            layers=tuple(Descriptor.from_json(item) for item in _sequence(tree, "layers")),
            media_type=_optional_text(tree, "mediaType") or OCI_MANIFEST,
            annotations=_text_map(tree, "annotations"),
        )

    def to_bytes(self) -> bytes:
        """Encode in the one form whose digest names the image."""
        tree: dict[str, Any] = {
            "schemaVersion": 2,
            "mediaType": self.media_type,
            "config": self.config.to_json(),
            "layers": [layer.to_json() for layer in self.layers],
        }
        if self.annotations:
            tree["annotations"] = dict(sorted(self.annotations.items()))
        return encode_document(tree)


@dataclass(frozen=True, slots=True)
class Index:
    """Several manifests: the platforms of an image, or the tags of a layout."""

    manifests: tuple[Descriptor, ...] = ()
    media_type: str = OCI_INDEX
    annotations: dict[str, str] = field(default_factory=dict)

    @classmethod
    def from_bytes(cls, data: bytes) -> "Index":
        """Decode an index document."""
        tree = parse_document(data, "image index")
        return cls(
            manifests=tuple(Descriptor.from_json(item) for item in _sequence(tree, "manifests")),
            media_type=_optional_text(tree, "mediaType") or OCI_INDEX,
            annotations=_text_map(tree, "annotations"),
        )

    def to_bytes(self) -> bytes:
        """Encode."""
        tree: dict[str, Any] = {
            "schemaVersion": 2,
            "mediaType": self.media_type,
            "manifests": [item.to_json() for item in self.manifests],
        }
        if self.annotations:
            tree["annotations"] = dict(sorted(self.annotations.items()))
        return encode_document(tree)

    def for_platform(self, platform: Platform) -> Descriptor | None:
        """Return the first manifest *platform* can run; one without a platform matches."""
        for item in self.manifests:
            if item.platform is None or platform.runs(item.platform):
                return item
        return None


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """What an image says about running it; an empty *entrypoint* and *command* mean none."""

    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    env: dict[str, str] = field(default_factory=dict)
    workdir: str = ""
    user: str = ""
    stop_signal: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    exposed_ports: tuple[str, ...] = ()
    """``8080/tcp``; documentation only."""
    volumes: tuple[str, ...] = ()
    healthcheck: dict[str, Any] | None = None
    """Docker's extension, kept as it is (durations in nanoseconds)."""
    shell: tuple[str, ...] = ()
    on_build: tuple[str, ...] = ()

    @classmethod
    def from_json(cls, tree: Any) -> "ImageConfig":
        """Decode the ``config`` member; null members count as absent."""
        data = {} if tree is None else _mapping(tree, "image config")
        healthcheck = data.get("Healthcheck")
        return cls(
            entrypoint=_texts(data, "Entrypoint"),
            command=_texts(data, "Cmd"),
            env=dict(item.partition("=")[::2] for item in _texts(data, "Env")),
            workdir=_optional_text(data, "WorkingDir"),
            user=_optional_text(data, "User"),
            stop_signal=_optional_text(data, "StopSignal"),
            labels=_text_map(data, "Labels"),
            exposed_ports=_keys(data, "ExposedPorts"),
            volumes=_keys(data, "Volumes"),
            healthcheck=None if healthcheck is None else dict(_mapping(healthcheck, "Healthcheck")),
            shell=_texts(data, "Shell"),
            on_build=_texts(data, "OnBuild"),
        )

    def to_json(self) -> dict[str, Any]:
        """Encode; empty members are left out."""
        tree: dict[str, Any] = {
            "User": self.user,
            "ExposedPorts": {port: {} for port in self.exposed_ports},
            "Env": [f"{name}={value}" for name, value in self.env.items()],
            "Entrypoint": list(self.entrypoint),
            "Cmd": list(self.command),
            "Volumes": {path: {} for path in self.volumes},
            "WorkingDir": self.workdir,
            "Labels": dict(sorted(self.labels.items())),
            "StopSignal": self.stop_signal,
            "Healthcheck": self.healthcheck,
            "Shell": list(self.shell),
            "OnBuild": list(self.on_build),
        }
        return {key: value for key, value in tree.items() if value}


@dataclass(frozen=True, slots=True)
class History:
    """How one layer came about."""

    created_by: str = ""
    created: str = ""
    author: str = ""
    comment: str = ""
    empty_layer: bool = False

    @classmethod
    def from_json(cls, tree: Any) -> "History":
        """Decode one item of ``history``."""
        data = _mapping(tree, "history item")
        return cls(
            created_by=_optional_text(data, "created_by"),
            created=_optional_text(data, "created"),
            author=_optional_text(data, "author"),
            comment=_optional_text(data, "comment"),
            empty_layer=bool(data.get("empty_layer")),
        )

    def to_json(self) -> dict[str, Any]:
        """Encode; empty members are left out."""
        tree = {
            "created": self.created,
            "created_by": self.created_by,
            "author": self.author,
            "comment": self.comment,
            "empty_layer": self.empty_layer,
        }
        return {key: value for key, value in tree.items() if value}


@dataclass(frozen=True, slots=True)
class Configuration:
    """The whole configuration document; *diff_ids* are lowest first."""

    platform: Platform
    config: ImageConfig = ImageConfig()
    diff_ids: tuple[str, ...] = ()
    history: tuple[History, ...] = ()
    created: str = ""
    author: str = ""
    other: dict[str, Any] = field(default_factory=dict)
    """Members we do not know, kept when a changed image is written."""

    @classmethod
    def from_bytes(cls, data: bytes) -> "Configuration":
        """Decode a configuration document."""
        tree = parse_document(data, "image configuration")
        rootfs = _mapping(tree.get("rootfs") or {"diff_ids": []}, "rootfs")
        known = {"architecture", "os", "variant", "config", "rootfs", "history"}
        known |= {"created", "author"}
        return cls(
            platform=Platform.from_json(tree),
            config=ImageConfig.from_json(tree.get("config")),
            diff_ids=tuple(check_digest(item) for item in _texts(rootfs, "diff_ids")),
            history=tuple(History.from_json(item) for item in _sequence(tree, "history")),
            created=_optional_text(tree, "created"),
            author=_optional_text(tree, "author"),
            other={key: value for key, value in tree.items() if key not in known},
        )

    def to_bytes(self) -> bytes:
        """Encode."""
        tree: dict[str, Any] = dict(sorted(self.other.items()))
        if self.created:
            tree["created"] = self.created
        if self.author:
            tree["author"] = self.author
        tree |= self.platform.to_json()
        tree["config"] = self.config.to_json()
        tree["rootfs"] = {"type": "layers", "diff_ids": list(self.diff_ids)}
        if self.history:
            tree["history"] = [item.to_json() for item in self.history]
        return encode_document(tree)


def parse_document(data: bytes, what: str) -> dict[str, Any]:
    """Return the JSON object in *data*; anything else is an ImageError that names *what*."""
    return _mapping(parse_json(data, what), what)


def parse_json(data: bytes, what: str) -> Any:
    """Return the JSON in *data*, whose strings can all be written.

    Raises:
        ImageError: it is no JSON, or has a lone surrogate in it, which no UTF-8 can express (RFC
            8259, 8.2); names *what*.
    """
    try:
        tree = json.loads(data)
        json.dumps(tree, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        found = ascii(error.object[error.start])
        raise ImageError(f"{what} holds {found}, which is no character") from error
    except (ValueError, RecursionError) as error:
        raise ImageError(f"{what} is not JSON: {error}") from error
    return tree


def encode_document(tree: Mapping[str, Any]) -> bytes:
    """Return *tree* as compact JSON, members in the order given.

    Pure ASCII, so that a lone surrogate somebody put into a label cannot make it fail.
    """
    return json.dumps(tree, separators=(",", ":")).encode()


def _mapping(tree: Any, what: str) -> dict[str, Any]:
    if not isinstance(tree, dict):
        raise ImageError(f"{what} is not a JSON object")
    return tree


def _sequence(tree: dict[str, Any], key: str) -> list[Any]:
    value = tree.get(key)
    if value is None:
        return []
    if not isinstance(value, list):
        raise ImageError(f"{key} is not a list")
    return value


def _text(tree: dict[str, Any], key: str) -> str:
    value = tree.get(key)
    if not isinstance(value, str) or not value:
        raise ImageError(f"{key} is missing")
    return value


def _optional_text(tree: dict[str, Any], key: str) -> str:
    value = tree.get(key)
    if value is not None and not isinstance(value, str):
        raise ImageError(f"{key} is not a string")
    return value or ""


def _texts(tree: dict[str, Any], key: str) -> tuple[str, ...]:
    value = tree.get(key)
    # Very old images carry a plain string where a list belongs.
    items = [value] if isinstance(value, str) else _sequence(tree, key)
    if not all(isinstance(item, str) for item in items):
        raise ImageError(f"{key} is not a list of strings")
    return tuple(items)


def _keys(tree: dict[str, Any], key: str) -> tuple[str, ...]:
    """Return the names of a Go-style set, ``{"8080/tcp": {}}``."""
    value = tree.get(key)
    return () if value is None else tuple(sorted(_mapping(value, key)))


def _text_map(tree: dict[str, Any], key: str) -> dict[str, str]:
    value = tree.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
        raise ImageError(f"{key} is not a map of strings")
    return dict(value)
