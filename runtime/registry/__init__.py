"""Talking to registries, as the OCI distribution-spec has it, and being one."""
