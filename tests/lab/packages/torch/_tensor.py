# Numbers in a list with a device: what the smoke operations compute with.
from . import cuda


class Tensor:
    def __init__(self, values, device="cpu"):
        if device == "cuda" and not cuda.is_available():
            raise RuntimeError("No CUDA GPUs are available")
        self._values = list(values)
        self.device = device

    def __mul__(self, factor):
        return Tensor([value * factor for value in self._values], self.device)

    def sum(self):
        return Tensor([sum(self._values)], self.device)

    def item(self):
        (value,) = self._values
        return value

    def tolist(self):
        return list(self._values)


def tensor(values, device="cpu"):
    return Tensor(values, device)


def ones(count, device="cpu"):
    return Tensor([1.0] * count, device)
