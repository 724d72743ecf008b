"""How a WELCOME names a target: `NAME@HASH`, its model id or its folder's name, and a hash of what its texts depend on.

Two targets are the same if their weights, their type and what runs them are: names of folders do not count.
"""

import hashlib

HASH_DIGITS = 32


def target_id(name: str, weights_sha256: str, arithmetic: str, engine: str = "") -> str:
    """arithmetic: the type that it computes in, such as float32 or nf4-bfloat16; a text that nearly ties is another in
    another one. engine: with its version, where that is not edgespec's own. weights_sha256: hex digits; empty where
    the weights are no files."""
    if not weights_sha256:
        return name
    whole = hashlib.sha256(f"{weights_sha256} {engine} {arithmetic}".encode()).hexdigest()
    label = f"{name}+{engine}-{arithmetic}" if engine else name
    return f"{label}@{whole[:HASH_DIGITS]}"


def target_name(identity: str) -> str:
    name, mark, _ = identity.rpartition("@")
    return name if mark else identity


def same_target(one: str, other: str) -> bool:
    return one.rpartition("@")[2] == other.rpartition("@")[2]
