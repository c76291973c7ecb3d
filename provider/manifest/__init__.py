"""Text to model: read, render, validate, compile, graph."""
