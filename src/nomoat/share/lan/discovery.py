"""Finds what others of this network offer."""

from __future__ import annotations

import contextlib
import queue
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from zeroconf import IPVersion, ServiceBrowser, ServiceListener, Zeroconf

from nomoat.share.lan.interfaces import is_near, lan_addresses, nearest
from nomoat.share.lan.offers import SERVICE_TYPE, Offer, offer_of

__all__ = ["discover"]

_SECONDS_FOR_MORE = 1.5  # browsers ask again after a second, and a record is not repeated sooner
_LONGEST_WAIT_MS = 1000
_AT_ONCE = 8


def discover(
    seconds: float = 4.0,
    wanted: Callable[[Offer], bool] | None = None,
    interfaces: Sequence[str] | None = None,
) -> list[Offer]:
    """What is on offer now, sorted. Sends multicast DNS questions into this network, and nothing elsewhere.

    With `wanted`, returns only such offers, and soon after the first one: others have little time left then.
    `interfaces` are this machine's addresses to ask from; by default those of its network cards and 127.0.0.1.
    Raises `OSError` where there is no multicast.
    """
    asked_from = list(interfaces) if interfaces is not None else [*lan_addresses(), "127.0.0.1"]
    found: set[Offer] = set()
    deadline = time.monotonic() + seconds
    with _browsing(asked_from) as offers:
        while (left := deadline - time.monotonic()) > 0:
            with contextlib.suppress(queue.Empty):
                offer = offers.get(timeout=left).result()
                if offer is not None and (wanted is None or wanted(offer)):
                    found.add(offer)
                    if wanted is not None:
                        deadline = min(deadline, time.monotonic() + _SECONDS_FOR_MORE)
    return sorted(found)


class _Offers(ServiceListener):
    """Asks services as they appear, side by side: one that went and answers no more holds up no other."""

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self.queue: queue.Queue[Future[Offer | None]] = queue.Queue()
        self._pool = pool

    def add_service(self, zc: Zeroconf, type_: str, name: str) -> None:
        self._pool.submit(_resolved, zc, name).add_done_callback(self.queue.put)

    def update_service(self, zc: Zeroconf, type_: str, name: str) -> None:
        self.add_service(zc, type_, name)

    def remove_service(self, zc: Zeroconf, type_: str, name: str) -> None:
        """What goes while it is looked for is noticed when it is asked."""


@contextlib.contextmanager
def _browsing(interfaces: list[str]) -> Iterator[queue.Queue[Future[Offer | None]]]:
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        zeroconf, listener = Zeroconf(interfaces=interfaces, ip_version=IPVersion.V4Only), _Offers(pool)
        try:
            browser = ServiceBrowser(zeroconf, SERVICE_TYPE, listener)
            yield listener.queue
            browser.cancel()
            pool.shutdown(cancel_futures=True)  # before the network goes that its questions need
        finally:
            zeroconf.close()


def _resolved(zeroconf: Zeroconf, name: str) -> Offer | None:
    """The offer of a service's name. None where it does not answer, or where its address is not in this network."""
    info = zeroconf.get_service_info(SERVICE_TYPE, name, timeout=_LONGEST_WAIT_MS)
    addresses = [text for text in info.parsed_addresses(IPVersion.V4Only) if is_near(text)] if info else []
    if info is None or not addresses or not info.port:
        return None
    record = {key: value or "" for key, value in info.decoded_properties.items()}
    peer = name.removesuffix(f".{SERVICE_TYPE}")
    return offer_of(record, peer, f"http://{nearest(addresses)}:{info.port}")
