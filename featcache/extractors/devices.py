"""Tensors → device → host memory, so that a GPU computes one batch while the results of the one before leave it."""

import logging
import threading
from collections.abc import Callable

import torch
from torch import Tensor

from featcache.errors import ModelError

log = logging.getLogger(__name__)

Forward = Callable[[], list[Tensor]]


class CPU:
    """The CPU: tensors stay where they are, and any number of forward passes run at a time."""

    is_cpu = True

    def send(self, tensor: Tensor) -> Tensor:
        """Return a tensor on the model's device."""
        return tensor

    def run(self, forward: Forward) -> list[Tensor]:
        """Return the results of a forward pass, in host memory."""
        return forward()


class Device(CPU):
    """Any device but the CPU. One forward pass at a time: side by side they fill its memory and are no faster."""

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
    """A CUDA GPU. Copies in either direction do not wait for a forward pass, nor forward passes for copies.

    Memory for copies is page-locked. PyTorch reuses freed memory for the next ``pin_memory``, but only after copies
    from it or to it are done (``CachingHostAllocator``).
    """

    def __init__(self, device: str) -> None:
        super().__init__(device)
        self._copies = torch.cuda.Stream(self._device)
        # one batch is computed while another one leaves; more would fill the GPU's memory with results
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
            done.synchronize()  # results must be referred to until here, to keep their memory on the GPU
        return on_host


def check_precision(device: str, precision: str) -> None:
    """Refuse half precision where a device computes in float32 alone, and warn where it is slow.

    Raises:
        ModelError: Apple's GPU, MPS, and another precision than float32.
    """
    if device.startswith("mps") and precision != "float32":
        raise ModelError(
            f"--precision {precision} is not available on mps, where models compute in float32; leave it out, or use "
            "--device cpu"
        )
    if device == "cpu" and precision == "float16":
        log.warning("--precision float16 is meant for GPUs: most CPUs take many times as long for it as for float32")


def on(device: str) -> CPU:
    """Return what takes tensors to a device and back.

    Args:
        device: As torch names it.
    """
    if device == "cpu":
        return CPU()
    return Cuda(device) if device.startswith("cuda") else Device(device)
