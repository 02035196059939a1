import glob
import os

import torch

for _library in sorted(glob.glob(os.path.join(os.path.dirname(__file__), "_*.so"))):
    torch.ops.load_library(_library)


def scatter(source, index):
    places = index.tolist()
    sums = [0.0] * (max(places) + 1)
    for place, value in zip(places, source.tolist()):
        sums[place] += value
    return torch.tensor(sums, device=source.device)
