"""For authors of connectors: `python -m connectors lint` and `test`, and what our own tests check ours with.

    PATH ──subjects──► manifest, code, samples ─┬─ lint     everything that is wrong, with file and line
                                                └─ trials   samples with golden results, spoiled proofs

Nothing that runs in a gateway or a runner imports this room.
"""
