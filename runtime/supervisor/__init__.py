"""The one process per host that parents all containers.

::

    client ── socket ── supervisor ── containers, execs, exec probes     its children
                          │   ├───── probe_worker                        HTTP and TCP probes
                          │   └───── runtime.network.dnsserver
                        keeper                                           its parent

A client starts the pair on demand (``start``), it ends by itself when there is nothing to do.

What it is made of: ``loop`` waits, ``server`` talks (in ``protocol``), ``supervisor`` knows what
may be asked; ``container`` is the state machine of one container, with ``output`` (``pump``,
``logfile``), ``probe`` and the pure ``restart`` and ``health``; ``execution`` is exec. All forks
go through ``child_process``, which has the launch program run by ``interpreter``. Processes of
our own are started by ``spawn``: an ``errand``, or a ``helper`` that stays. Readers that need no
supervisor: ``status`` and ``logs``.

How it survives ``kill -9`` at any moment:

- What must not be lost is in none of its memory: requests and states are in the run folder,
  written before the world is told; log bytes go from FIFO to file inside the kernel.
- The ``keeper`` holds FIFOs, terminals, pidfds and the listening socket, inherits and reaps the
  containers, and starts the next supervisor, which takes all of that over (``adoption``).
  Clients ask again; requests are such that twice is once.
- A fork is announced before and after. A child that was never announced (``strays``) is killed
  if it had not got to its exec, else taken over: no program runs twice.
- When the keeper is killed, the supervisor turns into a keeper, for it is the parent (``link``).
- When both are killed, the next client starts a pair that goes by the files.
"""
