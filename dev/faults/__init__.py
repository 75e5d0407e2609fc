"""Faults: the operator between proxies, killed, cut off, refused and misled, and the oracles that judge it.

    operator ──► proxies (one global sequence of writes) ──► kube-apiserver, Vault, PostgreSQL, Ray
                    ▲ faults                                       │
                 cases ◄── oracles: end state, counts, orphans, owners, rest, time, secrets, audit

`python -m dev.faults` runs all of it, `tests/faults` a sample. docs/faults.md says how to read and extend it.
"""
