"""edgespec beside what users would pick instead, on the same pair, prompts, machine and link, in the same run.

Each peer is a server in a process of its own that streams tokens through the same emulated link; what it needs is
installed into an environment of its own (`python -m benchmarks.peers install`), never among edgespec's dependencies.
"""
