"""Networks on one machine: hosts that are namespaces, lines that are slow and long, NATs."""

from benchmarks.network.namespaces import NetworkUnavailable, sweep
from benchmarks.network.network import Host, Network, Traffic, network
from benchmarks.network.plan import Home, Line, Nat, Plan, Spot

__all__ = [
    "Home",
    "Host",
    "Line",
    "Nat",
    "Network",
    "NetworkUnavailable",
    "Plan",
    "Spot",
    "Traffic",
    "network",
    "sweep",
]
