"""What `nomoat share` answers in the local network: read-only, exactly the things that were named."""
