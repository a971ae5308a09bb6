"""Turns the project's providers and the environment into the connections of one process: addresses and keys."""

from collections.abc import Iterable, Mapping

import msgspec

from cattlegrid.app.secret import Secret
from cattlegrid.release.files import ProjectFile
from cattlegrid.release.providers import Provider, providers_of


class Connection(msgspec.Struct, frozen=True, kw_only=True):
    """A provider as this process reaches it."""

    provider: Provider
    base_url: str
    api_key: Secret
    own_url: bool
    """Whether somebody has said where it is, in the file or in the environment."""

    @property
    def ready(self) -> bool:
        """Whether it can be asked: with a key, or at an address of one's own that needs none."""
        return bool(self.api_key) or (self.own_url and not self._key_is_asked_for)

    @property
    def missing(self) -> str:
        """What to set so that it can be asked."""
        provider = self.provider
        own = f", or {provider.base_url_env} for a server of your own" if provider.base_url_env else ""
        return f"{provider.api_key_env}{'' if self._key_is_asked_for else own}"

    @property
    def _key_is_asked_for(self) -> bool:
        return self.provider.declared_url and self.provider.needs_key


def connections_of(file: ProjectFile, environ: Mapping[str, str]) -> dict[str, Connection]:
    """The connections of a project by the name of their provider, the ready ones and the others."""
    found: dict[str, Connection] = {}
    for name, provider in providers_of(file).items():
        given = environ.get(provider.base_url_env, "") if provider.base_url_env else ""
        found[name] = Connection(
            provider=provider,
            base_url=given or provider.base_url,
            api_key=Secret(environ.get(provider.api_key_env, "") if provider.api_key_env else ""),
            own_url=provider.declared_url or bool(given),
        )
    return found


def used(file: ProjectFile, connections: Mapping[str, Connection]) -> dict[str, Connection]:
    """Those that the models of the project name, in their order."""
    return {model.provider: connections[model.provider] for model in file.models.values()}


def what_is_missing(connections: Iterable[Connection]) -> str:
    """The variables to set, as a sentence names them."""
    return " and ".join(
        dict.fromkeys(connection.missing for connection in connections if not connection.ready)
    )
