"""Model: a prediction that is trained on the tenant's own history and held to its gates.

Owns      the journal of trainings, the jobs on Ray, the model's files, the pointer to the active version.
Never     gives a credential to a job; promotes what missed a gate; trains twice at a time.
Says      Ready (a version predicts), Training, GatesPassed, Drifted.
"""
