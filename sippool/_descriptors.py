"""Room for as many sockets as the pool may hold.

1. Only the soft limit is raised: the hard one is the administrator's word.
2. Where the hard limit is too low nothing is raised, and the pool itself refuses to start with the numbers that
   would mend it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sippool_core import PoolConfig


def make_room(config: PoolConfig, listeners: int) -> None:
    """Raise the soft limit of descriptors to what `config` may need besides its `listeners`."""
    try:
        import resource
    except ImportError:  # pragma: no cover - Windows has no such limit
        return
    needed = config.limits.max_connections + config.limits.spare_descriptors + listeners
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    if hard == resource.RLIM_INFINITY or hard >= needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
