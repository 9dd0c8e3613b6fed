"""Optuna's tables: addresses, connections, leases, transactions, and studies as pandas tables."""
