"""Control groups, v1, v2 and hybrid: limits, statistics, membership, freezing and killing.

``hierarchy`` says where which controller lives on this host, ``group`` is one group in all the
hierarchies it needs, ``limiting`` makes it have limits and compares. Each controller has one file
a version below ``v1/`` and ``v2/``; there ``settings`` is pure (what the files should hold) and
``apply`` writes.

No group is ever touched whose name does not begin with ours.
"""
