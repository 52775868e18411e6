"""Accelerators: which one a process uses, and how much memory it has free."""

from importlib.util import find_spec
from typing import Final

from emstore.blocks.compute import CPU
from emstore.errors import InvalidInput
from emstore.operation import Operation

_SHARE: Final = 0.8
"""Part of the free memory that blocks may take: the libraries' own buffers need some."""


def choose(operation: Operation, name: str, device: str) -> str:
    """Return the device that a processor works on.

    Raises
    ------
    InvalidInput
        The processor works on the CPU only, or there is no such device.
    """
    if device == "auto":
        device = "cuda" if operation.arrays == "torch" and _cuda() else CPU
    if device == CPU:
        return CPU
    if operation.arrays != "torch":
        raise InvalidInput("it works on the CPU only", where=name, fix="leave --device out")
    if not device.partition(":")[0] == "cuda" or not _cuda():
        raise InvalidInput(f"there is no device {device!r} here", fix="use --device cpu")
    return device


def memory(device: str) -> int | None:
    """Return what blocks may take on a device, bytes; ``None`` on the CPU."""
    if device == CPU:
        return None
    import torch

    free, _ = torch.cuda.mem_get_info(torch.device(device))
    return int(free * _SHARE)


def model(device: str) -> str:
    """Return what a device is called in a Record: nothing by which one machine is told from another."""
    if device == CPU:
        return CPU
    if find_spec("torch") is None or not _cuda():  # another framework works there, which tells no name
        return device.partition(":")[0]
    import torch

    return str(torch.cuda.get_device_name(torch.device(device)))


def _cuda() -> bool:
    import torch

    return bool(torch.cuda.is_available())
