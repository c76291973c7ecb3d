"""The container's root: mount plan, overlay, paths inside a root."""
