"""The OCI Distribution API: one client for every registry, and the actions that manifests have of it.

    manifest's `oci: retag` ──operations──► Registry (tags, manifests) ──Calls──► signed, guarded requests

Written from the OCI Distribution specification 1.1. How a registry is logged in to is `auth.distribution`.
"""
