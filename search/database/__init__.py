"""The study database: addresses, connections, leases, transactions, and studies as pandas tables.

It is Optuna's own schema, and what is private to Optuna is used in this package alone.
"""
