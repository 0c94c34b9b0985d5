"""Replies that nobody reads."""

from __future__ import annotations

import pytest
from abused import FRESH_OVER_PLAIN_AND_TLS, MIB, Pair, fresh_pair  # noqa: F401
from bounds import growth_bound
from http2 import Connection
from unread import UNREAD, peak
from waiting import wait_for


@FRESH_OVER_PLAIN_AND_TLS
@pytest.mark.parametrize("reply", UNREAD)
def test_unread_replies_stay_within_the_bound_and_are_freed(fresh_pair: Pair, reply: str) -> None:  # noqa: F811
    attack = UNREAD[reply]
    service = attack.attacked(fresh_pair)
    before, clients = service.resident(), list[Connection]()
    try:
        for _ in range(attack.connections):
            clients.append(attack.open(fresh_pair))
        most = peak(service, clients, 4)
        print(f"{reply}: {before / MIB:.0f} -> {most / MIB:.0f} MiB, {attack.connections} connections")
        fresh_pair.assert_others_are_served()
    finally:
        for client in clients:
            client.socket.close()
    assert most < before + growth_bound(service, attack.connections), "unread replies take more memory than the service's bound"
    wait_for(lambda: service.resident() < before + 32 * MIB, "the memory of unread replies to be freed")
