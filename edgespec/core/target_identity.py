"""How a WELCOME names a target: `NAME@HASH`, its model id or its folder's name, and the beginning of its weights' hash.

Two targets are the same if their weights are: names of folders do not count.
"""

import hashlib

HASH_DIGITS = 32


def target_id(name: str, weights_sha256: str) -> str:
    """weights_sha256: hex digits; empty where the weights are no files."""
    return f"{name}@{weights_sha256[:HASH_DIGITS]}" if weights_sha256 else name


def engine_target_id(name: str, weights_sha256: str, engine: str, dtype: str) -> str:
    """Of a target that another engine runs: only targets of the same weights, engine, version and type are the same, as
    another one's last bits differ. engine: with its version."""
    whole = hashlib.sha256(f"{weights_sha256} {engine} {dtype}".encode()).hexdigest()
    return target_id(f"{name}+{engine}-{dtype}", whole)


def target_name(identity: str) -> str:
    name, mark, _ = identity.rpartition("@")
    return name if mark else identity


def same_target(one: str, other: str) -> bool:
    return one.rpartition("@")[2] == other.rpartition("@")[2]
