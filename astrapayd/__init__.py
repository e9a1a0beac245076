"""astrapayd: a self-hosted crypto payment daemon. It knows addresses and xpubs, never a private key."""

__version__ = "0.1.0"
