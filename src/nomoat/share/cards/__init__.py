"""What a model card says: computed from the files themselves, with the owner's own words beside it."""
