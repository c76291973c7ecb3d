"""The only bridge from the provider to the runtime."""
