"""Imperative shell: observe, apply, ledger, lock, report."""
