"""The configuration of a feature repository, as Python sees it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

_SECRETS = frozenset({"connection_string"})


class ConfigSection:
    """Settings by name, as attributes: ``config.online_store.type``.

    Printing it hides what may hold a password; the attribute gives it.

    Example:
        >>> from feastrs.config import ConfigSection
        >>> ConfigSection({"type": "redis", "connection_string": "h:1,password=x"})
        ConfigSection(type='redis', connection_string='***')
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._settings = {
            name: ConfigSection(value) if isinstance(value, Mapping) else value
            for name, value in settings.items()
        }

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["_settings"][name]
        except KeyError:
            raise AttributeError(f"the configuration has no setting '{name}'") from None

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self._settings]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ConfigSection) and self._settings == other._settings

    def __hash__(self) -> int:
        return hash(tuple(self._settings))

    def __repr__(self) -> str:
        shown = ", ".join(
            f"{name}='***'" if _is_secret(name, value) else f"{name}={value!r}"
            for name, value in self._settings.items()
        )
        return f"{type(self).__name__}({shown})"


def _is_secret(name: str, value: Any) -> bool:
    # The address of a database holds a password before its "@".
    is_login = isinstance(value, str) and "://" in value and "@" in value
    return name in _SECRETS or is_login


# Settings of Feast's that feastrs does not interpret.
_FEASTS_OWN = frozenset(
    {
        *("auth", "auth_config", "coerce_tz_aware", "data_quality_monitoring_config"),
        *("embedding_model", "feature_server", "flags", "mlflow", "mlflow_config", "openlineage"),
        *("openlineage_config", "batch_engine_config", "offline_config", "online_config"),
        *("registry_config", "project_description", "get_offline_store_config"),
    }
)


class RepoConfig(ConfigSection):
    """The settings of one repository, with Feast's names.

    ``project``, ``provider``, ``registry``, ``online_store``, ``offline_store``,
    ``batch_engine``, ``materialization_config``, ``entity_key_serialization_version``,
    ``repo_path``. What feastrs does not interpret (``feature_server``, ``flags``, …) is asked of
    Feast, where feast is installed.

    Args:
        settings: by name.
        by_feast: gives ``feast.RepoConfig`` of the same repository.

    Example:
        >>> store.config.materialization_config.pull_latest_features
        False
    """

    def __init__(
        self, settings: Mapping[str, Any], by_feast: Callable[[str], Any] | None = None
    ) -> None:
        super().__init__(settings)
        self._by_feast = by_feast
        if path := self._settings.get("repo_path"):
            self._settings["repo_path"] = Path(path)

    def __getattr__(self, name: str) -> Any:
        if name == "materialization_config":
            name = "materialization"
        by_feast = self.__dict__.get("_by_feast")
        if name in _FEASTS_OWN and by_feast is not None:
            return getattr(by_feast(name), name)
        return super().__getattr__(name)


def config_json(config: Any) -> tuple[str, Path | None]:
    """A configuration object or mapping as JSON text, and the path of its repository.

    Args:
        config: a mapping with the keys of ``feature_store.yaml``, or a ``feast.RepoConfig``.

    Raises:
        TypeError: it is something else.
    """
    if isinstance(config, Mapping):
        settings = dict(config)
        repo_path = settings.pop("repo_path", None)
    elif hasattr(config, "model_dump") and hasattr(config, "online_config"):
        settings = _of_feast(config)
        repo_path = config.repo_path
    else:
        raise TypeError(
            f"config is of type {type(config).__name__}; give a mapping with the keys of "
            "feature_store.yaml, or a feast.RepoConfig"
        )
    return json.dumps(settings, default=str), Path(repo_path) if repo_path else None


def _of_feast(config: Any) -> dict[str, Any]:
    def plain(section: Any) -> Any:
        return section.model_dump(exclude_unset=True) if hasattr(section, "model_dump") else section

    return {
        "project": config.project,
        "provider": config.provider,
        "registry": plain(config.registry_config),
        "online_store": plain(config.online_config),
        "offline_store": plain(config.offline_config),
        "batch_engine": plain(config.batch_engine_config),
        "entity_key_serialization_version": config.entity_key_serialization_version,
        "materialization": plain(config.materialization_config),
    }
