"""The command line of sippool (`listen`, `ping`, `demo`) and, in `sippool.testing`, what tests are made of.

The library itself is in three packages: `sippool_core` (the pool as a state machine without input or output),
`sippool_sync` (plain sockets) and `sippool_anyio` (asyncio and trio). Nothing in them imports this one.
"""
