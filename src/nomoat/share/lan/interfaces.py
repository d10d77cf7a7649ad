"""The addresses at which other machines of the same network reach this one."""

from __future__ import annotations

import ipaddress
import socket
from pathlib import Path

import psutil

__all__ = ["is_near", "lan_addresses", "nearest"]

_SYS_NET = Path("/sys/class/net")
# Where the kernel does not say which interface has a device behind it: names of those that never have one.
_VIRTUAL = ("bridge", "br-", "docker", "veth", "virbr", "vmnet", "vboxnet", "tun", "tap", "utun", "awdl", "llw",
            "wg", "tailscale", "zt", "gif", "stf", "ipsec", "ppp", "cni", "flannel")  # fmt: skip


def lan_addresses() -> tuple[str, ...]:
    """IPv4 addresses of interfaces that are up and have a network card behind them; private ones only.

    A public address is left out: whoever has one shares with the world, which must be asked for by name.
    """
    states = psutil.net_if_stats()
    found = [
        address.address
        for name, addresses in psutil.net_if_addrs().items()
        if name in states and states[name].isup and _is_real(name)
        for address in addresses
        if address.family == socket.AF_INET and is_near(address.address) and not _is_loopback(address.address)
    ]
    return tuple(dict.fromkeys(found))


def is_near(address: str) -> bool:
    """Whether an address can only be in this network or on this machine."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    parsed = getattr(parsed, "ipv4_mapped", None) or parsed
    return (parsed.is_private or parsed.is_link_local) and not parsed.is_unspecified


def nearest(addresses: list[str]) -> str:
    """The address that shares a network with this machine, else the first."""
    own = [
        ipaddress.ip_interface(f"{entry.address}/{entry.netmask}").network
        for entries in psutil.net_if_addrs().values()
        for entry in entries
        if entry.family == socket.AF_INET and entry.netmask
    ]
    for address in addresses:
        if any(ipaddress.ip_address(address) in network for network in own):
            return address
    return addresses[0]


def _is_loopback(address: str) -> bool:
    return ipaddress.ip_address(address).is_loopback


def _is_real(name: str) -> bool:
    if _SYS_NET.is_dir():
        return (_SYS_NET / name / "device").exists()
    return not name.startswith(_VIRTUAL)
