"""Adapters: each module speaks to one vendor and answers one or more Protocols of `pipewright.ports`.

A vendor's exceptions and objects never leave this room.
"""
