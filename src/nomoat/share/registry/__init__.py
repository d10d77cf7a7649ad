"""The registry: repositories, their history, who may do what. Everything a hub knows, without HTTP."""
