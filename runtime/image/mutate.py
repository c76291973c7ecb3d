"""New images from old ones: pure functions over the values of `runtime.image.model`."""

from dataclasses import replace

from runtime.image.model import Configuration, Descriptor, History, ImageConfig, Manifest
from runtime.record import dataclass, field


@dataclass(frozen=True, slots=True)
class Overrides:
    """What an operator wants different; None or absent leaves the image's own value."""

    entrypoint: tuple[str, ...] | None = None
    command: tuple[str, ...] | None = None
    env: dict[str, str] = field(default_factory=dict)
    """Added to the image's variables; the same name wins over it."""
    workdir: str | None = None
    user: str | None = None
    stop_signal: str | None = None
    labels: dict[str, str] = field(default_factory=dict)


def override(config: ImageConfig, overrides: Overrides) -> ImageConfig:
    """Return *config* with *overrides* merged over it.

    A new entrypoint without a command drops the image's command, as ENTRYPOINT in a Dockerfile
    does: the old command was meant for the old entrypoint.
    """
    entrypoint, command = config.entrypoint, config.command
    if overrides.entrypoint is not None:
        entrypoint, command = overrides.entrypoint, ()
    if overrides.command is not None:
        command = overrides.command
    return replace(
        config,
        entrypoint=entrypoint,
        command=command,
        env=config.env | overrides.env,
        workdir=config.workdir if overrides.workdir is None else overrides.workdir,
        user=config.user if overrides.user is None else overrides.user,
        stop_signal=(
            config.stop_signal if overrides.stop_signal is None else overrides.stop_signal
        ),
        labels=config.labels | overrides.labels,
    )


def append_layer(
    manifest: Manifest,
    configuration: Configuration,
    layer: Descriptor,
    *,
    diff_id: str,
    history: History,
) -> tuple[Manifest, Configuration]:
    """Return the pair with *layer* on top; the manifest still names the old configuration."""
    return (
        replace(manifest, layers=(*manifest.layers, layer)),
        replace(
            configuration,
            diff_ids=(*configuration.diff_ids, diff_id),
            history=(*configuration.history, history),
        ),
    )


def seal(manifest: Manifest, configuration: Configuration) -> tuple[Manifest, bytes]:
    """Return *manifest* naming *configuration*, and the bytes of the latter."""
    data = configuration.to_bytes()
    config = Descriptor.of(manifest.config.media_type, data)
    return replace(manifest, config=config), data
