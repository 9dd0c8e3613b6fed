"""Processes that train: who holds leases, who trains for them, how they end."""
