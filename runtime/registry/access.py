"""The registries of this host as configured: which to ask for an image, and as whom."""

from __future__ import annotations

from collections.abc import Callable

from runtime.image.reference import Reference
from runtime.registry.auth import Credentials
from runtime.registry.client import Registry, Repository
from runtime.registry.credentials import Keyring
from runtime.registry.errors import DeniedError
from runtime.registry.settings import Endpoint, read_settings
from runtime.registry.transport import Transport


class Access:
    """Connections, settings and credentials in one; threads may share it."""

    def __init__(
        self,
        *,
        insecure: bool = False,
    ) -> None:
        """Take what is configured; *insecure* holds for all registries."""
        self._settings = read_settings()
        self._keyring = Keyring()
        self._insecure = insecure
        self._insecure_hosts: set[str] = set()
        self._transport = Transport(
            lambda host: self._settings.trust(host, insecure=host in self._insecure_hosts)
        )

    def sources(self, reference: Reference) -> tuple[Repository, ...]:
        """Return the repositories to pull *reference* from, in the order to try.

        Raises:
            ImageError: the configuration blocks it, or is no good.
        """
        endpoints = self._settings.endpoints(reference, insecure=self._insecure)
        return tuple(self._repository(each, reference) for each in endpoints)

    def target(self, reference: Reference) -> Repository:
        """Return the repository to push *reference* to.

        Raises:
            ImageError: the configuration blocks it, or is no good.
        """
        endpoint = self._settings.endpoint(reference, insecure=self._insecure)
        return self._repository(endpoint, reference)

    def check(self, registry: str, credentials: Credentials) -> None:
        """See that a registry knows *credentials*.

        Raises:
            DeniedError: it does not.
            RegistryError: it cannot be asked, or is none.
        """
        endpoint = self._settings.endpoint(Reference(registry, "any"), insecure=self._insecure)
        try:
            self._registry(registry, endpoint, lambda: credentials).check()
        except DeniedError as error:
            raise DeniedError(
                f"{registry}: name or password is refused", status=error.status
            ) from error

    def _repository(self, endpoint: Endpoint, reference: Reference) -> Repository:
        # The registry is known by its name, a mirror by its own.
        own = self._settings.endpoint(reference, insecure=self._insecure)
        name = reference.registry if endpoint.host == own.host else endpoint.host
        registry = self._registry(
            name, endpoint, lambda: self._keyring.find(name, endpoint.repository)
        )
        return Repository(registry, endpoint.repository)

    def _registry(
        self, name: str, endpoint: Endpoint, find: Callable[[], Credentials | None]
    ) -> Registry:
        if endpoint.insecure:
            self._insecure_hosts.add(endpoint.host)
        return Registry(self._transport, name, endpoint.host, find, insecure=endpoint.insecure)
