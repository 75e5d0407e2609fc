"""The runtime: what turns watch events into reconciles, and tells the world how that goes.

    kopf ── watch ──► queue ──► drive ──► a controller's reconcile
                        ▲          │
                        └──────────┘   again at once, later, or after a backoff
    leader: one process at a time · health: is it alive · metrics, tracing, logs, events: what it did

With the controllers' `handlers` and the composition root this is the only room that imports kopf, and of its
modules only `watch` does.
"""
