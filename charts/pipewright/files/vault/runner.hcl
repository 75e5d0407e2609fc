# What the runner may do in Vault: read the platform's secrets of a tenant and keep its integrations' own
# (webhook secrets). What a tenant wrote it reads only with a token of the tenant's ServiceAccount.
# `+` stands for one tenant's id.

path "tenants/data/+/platform/*" {
  capabilities = ["read"]
}

path "tenants/data/+/platform/integrations/*" {
  capabilities = ["create", "read", "update", "delete"]
}

path "tenants/metadata/+/platform/*" {
  capabilities = ["read", "list"]
}

path "tenants/metadata/+/platform/integrations/*" {
  capabilities = ["create", "read", "update", "delete", "list"]
}
