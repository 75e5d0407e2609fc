"""The platform database's script tree."""
