"""Versions in, one new version out: the second use case.

`plan` finds out what will be read and written and checks it, and touches nothing; `run` does it: a transaction, the blocks,
the seal.
"""

from emstore.processing.plan import DEFAULT_MEMORY, check_fits, operation_of, promised
from emstore.processing.run import Processed, process

__all__ = ["DEFAULT_MEMORY", "Processed", "check_fits", "operation_of", "process", "promised"]
