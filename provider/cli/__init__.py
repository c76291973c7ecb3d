"""The bayplan command."""
