"""Containers as a user knows them: bundle, state, exec, logs."""
