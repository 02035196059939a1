# The stand-in numpy: an array is a list.
class ndarray(list):
    def tolist(self):
        return list(self)


def array(values):
    return ndarray(values)


def ones(count):
    return ndarray([1.0] * count)
