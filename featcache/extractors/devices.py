"""Tensors → device → host memory; a GPU computes one batch while it copies the results of the previous one."""

import logging
import threading
from collections.abc import Callable

import torch
from torch import Tensor

from featcache.errors import ModelError

log = logging.getLogger(__name__)

Forward = Callable[[], list[Tensor]]


class CPU:
    """The CPU: tensors stay in host memory, and any number of forward passes run at the same time."""

    is_cpu = True

    def send(self, tensor: Tensor) -> Tensor:
        """Return a tensor on the model's device."""
        return tensor

    def run(self, forward: Forward) -> list[Tensor]:
        """Return the results of a forward pass, in host memory."""
        return forward()


class Device(CPU):
    """A device other than the CPU. It runs one forward pass at a time, because several would only need more memory."""

    is_cpu = False

    def __init__(self, device: str) -> None:
        self._device = torch.device(device)
        self._turn = threading.Lock()

    def send(self, tensor: Tensor) -> Tensor:
        return tensor.to(self._device)

    def run(self, forward: Forward) -> list[Tensor]:
        with self._turn:
            return [result.cpu() for result in forward()]


class Cuda(Device):
    """A CUDA GPU. Copies in both directions run at the same time as forward passes.

    Memory for copies is page-locked. PyTorch reuses freed memory for the next ``pin_memory``, but only after the copies
    from or to it have finished (``CachingHostAllocator``).
    """

    def __init__(self, device: str) -> None:
        super().__init__(device)
        self._copies = torch.cuda.Stream(self._device)
        # One batch is computed while another one is copied to the host. More batches would fill the GPU's memory.
        self._places = threading.BoundedSemaphore(2)

    def send(self, tensor: Tensor) -> Tensor:
        return tensor.pin_memory().to(self._device, non_blocking=True)

    def run(self, forward: Forward) -> list[Tensor]:
        with self._places:
            with self._turn, torch.cuda.device(self._device):
                results = forward()
                self._copies.wait_stream(torch.cuda.current_stream())
                with torch.cuda.stream(self._copies):
                    on_host = [torch.empty_like(result, device="cpu", pin_memory=True) for result in results]
                    for host, result in zip(on_host, results, strict=True):
                        host.copy_(result, non_blocking=True)
                    done = torch.cuda.Event(blocking=True)
                    done.record()
            done.synchronize()  # `results` must stay referenced until here, so that their GPU memory is not reused.
        return on_host


def check_precision(device: str, precision: str) -> None:
    """Refuse half precision on a device that does not support it, and warn if it is slow.

    Args:
        device: Torch device.
        precision: Name of the dtype in which a model computes.

    Raises:
        ModelError: the device is Apple's GPU (MPS), and the precision is not float32.
    """
    if device.startswith("mps") and precision != "float32":
        raise ModelError(
            f"--precision {precision} is not available on mps, which computes in float32; leave out --precision, or "
            "use --device cpu"
        )
    if device == "cpu" and precision == "float16":
        log.warning("--precision float16 is meant for GPUs; on most CPUs it is many times slower than float32")


def on(device: str) -> CPU:
    """Return the object that copies tensors to a device, runs forward passes and copies the results back.

    Args:
        device: Torch device.
    """
    if device == "cpu":
        return CPU()
    return Cuda(device) if device.startswith("cuda") else Device(device)
