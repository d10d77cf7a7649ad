"""Sharing in one network without a hub: announced by mDNS, fetched from several peers, every block verified."""
