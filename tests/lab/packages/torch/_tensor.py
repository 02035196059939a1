# Numbers in a list with a device: what the smoke operations compute with.
from . import cuda, version


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

    def numpy(self):
        import numpy

        return numpy.array(self._values)

    def tolist(self):
        return list(self._values)


def tensor(values, device="cpu"):
    return Tensor(values, device)


def from_numpy(array):
    # torch 2.3 is the first that was built for numpy 2.
    release = tuple(int(part) for part in version.__version__.split(".")[:2])
    if release < (2, 3) and int(numpy_version().split(".")[0]) >= 2:
        raise RuntimeError("Numpy is not available")
    return Tensor(array)


def numpy_version():
    import numpy

    return numpy.__version__


def ones(count, device="cpu"):
    return Tensor([1.0] * count, device)
