"""One folder per kind, the same five files in each: handlers, reconcile, observe, plan, objects.

Open `reconcile.py` first. Controllers never import each other: they meet through custom resources.
"""
