"""Which requests a rollout moves to its challenger: the same in every worker, and at every step."""

from hashlib import blake2b

__all__ = ["place_of"]


def place_of(rollout: str, key: bytes) -> float:
    """A request's place in 0..1, even over keys: the challenger gets those below the share.

    It does not depend on the share, so a growing share keeps all that it had. `key` is the
    prediction id's bytes, or what a caller is recognised by.
    """
    digest = blake2b(rollout.encode() + b"\0" + key, digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2.0**64
