"""An adapter whose module loads a format library at the top."""

import h5py
from emstore_slab import SlabAdapter


class HeavySlab(SlabAdapter):
    library = h5py.__name__
