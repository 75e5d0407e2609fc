"""Coverage-guided fuzzing, no part of the tests; `make fuzz`."""
