"""Images: store, layers, sources."""
