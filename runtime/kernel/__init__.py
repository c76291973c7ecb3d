"""Typed system calls and kernel formats; the only place with ctypes."""
