"""The client's side of sharing: names of things on hubs, what a hub holds, fetching it and sending it."""
