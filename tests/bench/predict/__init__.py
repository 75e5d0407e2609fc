"""How good the failure prediction is on real histories, and how long features and fits take."""
