"""Prediction of CI runs: training on Ray, scoring in the gateway, from the same pure functions.

This package is importable alone (Ray's workers get it as a zip): it uses the standard library, NumPy, SciPy,
pyarrow and LightGBM, and nothing else of this project. The rooms, in the order in which a run meets them:
`history` (what is remembered), `features` (what the model sees), `window` and `replay` (the same, offline),
`linear`, `scorer` and `fit` (the model), `search` and `tune` (its settings), `metrics`, `train` (the job),
`artifact` (the file), `predict` and `reasons` (the answer). `table`, `trial`, `evaluate` and `summary` judge
it on anybody's runs. Beside them stand `templates`, `taxonomy`, `text` and `causes` (why a job failed),
`flaky`, `durations`, `anomaly` and `recommend`; `evaluate_causes` says how good these are.
"""
