"""Links, addresses, firewall, names."""
