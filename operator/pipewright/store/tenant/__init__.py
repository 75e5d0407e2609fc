"""The tenant database's script tree."""
