# What the provisioner may do in Vault: set tenants up and take them down. It writes the platform's secrets
# and rotates them, but reads nothing that a tenant wrote. `+` stands for one tenant's id.

# The platform's secrets of a tenant: logins, webhook secrets, the wrapped data key.
path "tenants/data/+/platform/*" {
  capabilities = ["create", "read", "update", "delete"]
}

# The connection that the tenant reads; write only.
path "tenants/data/+/user/database" {
  capabilities = ["create", "update", "delete"]
}

# Teardown, and nothing else, of what tenants wrote.
path "tenants/data/+/*" {
  capabilities = ["delete"]
}

# Versions and custom metadata (the owner's UID), never values.
path "tenants/metadata/+/*" {
  capabilities = ["create", "read", "update", "delete", "list"]
}

# A tenant's own policy and login role. The fixed prefix keeps every other policy and role out of reach.
path "sys/policies/acl/pipewright-tenant-*" {
  capabilities = ["create", "read", "update", "delete"]
}

path "auth/kubernetes/role/pipewright-tenant-*" {
  capabilities = ["create", "read", "update", "delete"]
}

# A tenant's role of the database engine, which makes short-lived logins; and whether a server is connected.
path "database/roles/pipewright-tenant-*" {
  capabilities = ["create", "read", "update", "delete"]
}

path "database/config/+" {
  capabilities = ["read"]
}

# Keys that wrap the tenants' data keys. A key goes only after deletion_allowed was set on it.
path "transit/keys/+" {
  capabilities = ["create", "read", "update", "delete"]
}

path "transit/keys/+/config" {
  capabilities = ["create", "update"]
}

path "transit/keys/+/rotate" {
  capabilities = ["create", "update"]
}

path "transit/rewrap/+" {
  capabilities = ["create", "update"]
}

path "transit/datakey/plaintext/+" {
  capabilities = ["create", "update"]
}

path "transit/decrypt/+" {
  capabilities = ["create", "update"]
}
