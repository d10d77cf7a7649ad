"""Ground floor: errors, digests, atomic files, manifests, settings. Standard library only."""
