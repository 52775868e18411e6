"""Networks: what they are made of, how they are built and run, and trained weights for them.

From the bottom up: `layers` says what a network is made of; `autoencoder` and `poisson_unet` are two, with their losses;
`architectures` finds them by name and checks weights against them. `backend` chooses the framework, `graph` builds Keras models
and `inference` runs trained ones. `archive` and `files` keep weights in files; `chance` is where random numbers come from.
Heavy libraries are imported inside functions.
"""

from emstore.networks.architectures import Network, accepts, network_of, started
from emstore.networks.files import read_weights, shipped, shipped_record, shipped_weights, write_weights
from emstore.networks.graph import build, from_weights, to_weights

__all__ = [
    "Network",
    "accepts",
    "build",
    "from_weights",
    "network_of",
    "read_weights",
    "shipped",
    "shipped_record",
    "shipped_weights",
    "started",
    "to_weights",
    "write_weights",
]
