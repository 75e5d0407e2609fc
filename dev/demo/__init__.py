"""The demo: from an empty machine to a healed CI failure, on real servers, each step shown as it happens.

    stack → tenants → integration → history and webhooks → model → workflow → a failure heals → proofs

Nothing is taken on trust: each line that says "done" was read back from the server that it is about.
"""
