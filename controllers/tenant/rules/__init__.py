"""A Tenant's rules, one file for each part of its place: what was seen in, what is to be done out. Pure."""
