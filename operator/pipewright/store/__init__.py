"""The platform database and the tenants' databases: schemas, migrations, and every query as a typed function.

    roles     names and who may do what        bootstrap  an empty server becomes Pipewright's
    schema    Alembic's two trees              pools      connections, and psycopg's errors translated
    history decisions predictions journal window   a tenant's database
    routes audit                                   the platform database

Queries take an open connection in autocommit mode; the caller makes the transaction. Nothing here knows
Kubernetes, Vault or the machine-learning package.
"""
