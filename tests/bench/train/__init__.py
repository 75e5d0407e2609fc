"""What serving and training a model take, beside what bounds them; `python -m tests.bench.train`."""
