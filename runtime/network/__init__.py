"""Bridges, addresses, names, published ports.

The way in is four modules: ``network`` (networks and attaching containers to them), ``firewall``
(published ports), ``dns`` (zones and resolv.conf) and ``observe`` (what the kernel lacks of what
should be there, and mending it). Below them: ``netns``, ``rtnetlink``, ``ruleset``, ``nft``,
``ipam``, ``store``, ``hostlock``. ``dnsserver`` is a program of its own.
"""
