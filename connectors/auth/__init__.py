"""How a request proves whose it is: one kind of a manifest's `http.auth`, with the fields of a Secret.

    manifest ──parse──► one of KINDS      request + Caller (config, Secret, client, tokens) ──sign──► headers

A kind is a class, named by the manifest. Kinds that are granted a token for a while keep it in `Tokens`, in
memory and under a key that only the same credentials give. A secret is read at the moment of signing; no
message, text or repr holds one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from connectors.auth.caller import Auth, Caller, Options, Request, Signed, Text
from connectors.auth.distribution import Distribution
from connectors.auth.github_app import GitHubApp
from connectors.auth.google import GoogleServiceAccount
from connectors.auth.oauth2 import ClientCredentials
from connectors.auth.sigv4 import SigV4
from connectors.auth.static import Anonymous, Basic, Header
from connectors.auth.tokens import Tokens

__all__ = ["KINDS", "Auth", "Caller", "Options", "Request", "Signed", "Text", "Tokens"]

KINDS: Final[Mapping[str, Callable[[Options, Text], Auth]]] = {
    "bearer": Header.bearer,
    "basic": Basic.parse,
    "header": Header.parse,
    "oauth2ClientCredentials": ClientCredentials.parse,
    "sigv4": SigV4.parse,
    "googleServiceAccount": GoogleServiceAccount.parse,
    "githubApp": GitHubApp.parse,
    "distribution": Distribution.parse,
    "none": Anonymous.parse,
}
"""How a kind is made of a manifest's options, by its name."""
