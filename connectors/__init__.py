"""Connectors: what Pipewright knows of each CI system, as data, and the engine that reads it.

    catalogue/<name>.yaml ──manifest──► Manifest ─┬─ verify    is this delivery really the provider's?
                                                  ├─ mapping   what does it say about runs and jobs?
                                                  ├─ actions   do something there  ──outbound──► provider
                                                  ├─ sync      what happened before? ──outbound──► provider
                                                  └─ docs      a page that tells how to connect it

Owns      the manifests, their schema, and what happens on the way to and from a provider.
Never     stores anything, knows a tenant, or touches the cluster: the callers do.
"""
