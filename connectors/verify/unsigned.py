"""`none`: nothing is signed; only the path, which nobody can guess, and the sender's address speak for it.

Docker Hub, Quay, plugins of Jenkins. Whoever learns the path can send anything, so that an Integration has to
allow it (`Claim.allow_unsigned`).
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Self

from connectors.verify.claim import Claim, Options, SignatureRefused, Text

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsigned:
    """Nothing but the path, from these networks."""

    networks: tuple[Network, ...] = ()
    """Empty: from anywhere."""

    @classmethod
    def parse(cls, options: Options, _text: Text) -> Self:
        """From a manifest.

        Raises:
            ValueError: what is no network.
        """
        return cls(networks=tuple(ipaddress.ip_network(each) for each in options.get("networks", ())))

    @property
    def proofs(self) -> frozenset[str]:
        """No header proves anything."""
        return frozenset()

    def check(self, claim: Claim) -> None:
        """Return if the Integration allows it and the sender is in one of the networks.

        Raises:
            SignatureRefused: otherwise.
        """
        if not claim.allow_unsigned:
            raise SignatureRefused("deliveries that nobody signed are not allowed by this Integration")
        if self.networks and not self._inside(claim.source):
            raise SignatureRefused("deliveries are not taken from the address that this one came from")

    def _inside(self, source: str) -> bool:
        try:
            address = ipaddress.ip_address(source.partition("%")[0])
        except ValueError:
            return False
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return any(address in network for network in self.networks)
