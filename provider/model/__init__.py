"""Nouns: frozen, standard library only, no I/O."""
