"""Integration: one CI system that a tenant connects, by a connector of the catalogue.

Owns      the webhook's secret in Vault, its projection in the namespace, the gateway's route.
Never     writes to the credentials' Secret, or keeps its value longer than a call takes.
Says      Ready, CredentialsValid, WebhookReady, SyncCurrent.
"""
