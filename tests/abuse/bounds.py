"""How much a service's resident memory may grow, whatever its clients do.

It is the sum of:

- the memory budget, which all clients share: 64 MiB, or four of the largest messages if that is more (REST bodies of 23.5 MiB);
- for each open connection, the share that it may hold beyond the budget (32 KiB) and its own buffers (48 KiB over TLS);
- the encoder's cache of vectors (`encoder.cache_mib`);
- calls in progress, such as the vectors of batches that are being scored, and what the allocator keeps. This part is measured,
  not derived: `make misbehave` found up to 81 MiB for the classifier in 90 s.

With the default limits of connections (1,024 on each of two listeners) the classifier's worst case is 382 MiB above its start,
160 MiB of them for connections, and the encoder's 352 MiB. Lower `max_connections`, `http.max_connections` and
`rest.max_connections` bound it more tightly."""

from __future__ import annotations

from abused import MIB, Service

BUDGET_MIB = {"encoder-svc": 97, "classifier-svc": 94}
CACHE_MIB = {"encoder-svc": 32, "classifier-svc": 0}
WORK_MIB = {"encoder-svc": 64, "classifier-svc": 128}
CONNECTION_BYTES = (32 + 48) << 10


def growth_bound(service: Service, connections: int) -> int:
    """Returns the bytes by which resident memory may exceed that after the service's first calls."""
    name = service.log.stem
    return (BUDGET_MIB[name] + CACHE_MIB[name] + WORK_MIB[name]) * MIB + connections * CONNECTION_BYTES
