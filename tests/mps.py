"""Simulation of Apple's GPU on machines without one."""

import torch


class OnMps(torch.overrides.TorchFunctionMode):
    """Mode in which the CPU replaces Apple's GPU. It fails for dtypes without support there, such as float64."""

    def __init__(self):
        super().__init__()
        self.sent = 0

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        places = [*args, *kwargs.values()]
        if any(isinstance(place, (str, torch.device)) and str(place).startswith("mps") for place in places):
            self.sent += 1
            args = tuple(
                torch.device("cpu") if isinstance(a, (str, torch.device)) and str(a).startswith("mps") else a
                for a in args
            )
            kwargs = {k: "cpu" if str(v).startswith("mps") else v for k, v in kwargs.items()}
            result = function(*args, **kwargs)
            if isinstance(result, torch.Tensor):
                assert result.dtype not in (torch.float64, torch.bfloat16, torch.float16), function
            return result
        return function(*args, **kwargs)
