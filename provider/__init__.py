"""Decides: manifests to a plan, a plan to converged hosts."""
