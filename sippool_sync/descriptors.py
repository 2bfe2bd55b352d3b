"""Whether the process has descriptors enough for what a pool may come to hold."""

from __future__ import annotations

from sippool_core import ConfigurationError, Limits, PoolConfig


def fit_descriptors(config: PoolConfig, descriptors: int | None) -> PoolConfig:
    """Settings under which the pool cannot use up the process's descriptors.

    The default of `max_connections` is lowered as far as need be. Raises `ConfigurationError` where another number was
    asked for that does not fit.
    """
    limits = config.limits
    if descriptors is None or limits.max_connections + limits.spare_descriptors <= descriptors:
        return config
    room = descriptors - limits.spare_descriptors
    if limits.max_connections == Limits().max_connections and room > 0:
        return config.replace(max_connections=room)
    raise ConfigurationError(
        f"max_connections ({limits.max_connections}) and spare_descriptors ({limits.spare_descriptors}) do not fit"
        f" the process's limit of {descriptors} descriptors (ulimit -n)"
    )
