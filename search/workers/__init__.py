"""Processes: workers, which hold leases on trials, and the executors that train for them."""
