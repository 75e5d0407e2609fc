"""Tenant: one team's place in the cluster, on a PostgreSQL server and in Vault.

Owns      namespaces, quota, limits, network policies, access bindings, the tenant's database and Vault path.
Never     reads what the tenant stores there; touches a thing without the tenant's UID on it.
Says      Ready, NamespacesReady, AccessReady, NetworkReady, DatabaseReady, SecretsReady.
"""
