"""Make the reference outputs of Cryo2Struct's network, by the library that it is built on.

    python -m venv sa && sa/bin/pip install torch torchvision self-attention-cv==1.2.3
    sa/bin/python tests/reference/unetr_outputs.py tests/reference/unetr_outputs.npz

The library's UNETR with the original's settings, once with 4 blocks (all of them taken up, 6 heads,
21 classes) and once with 12 (every third, 12 heads, 4 classes); each parameter is a sine of its
number, so that nothing but a part of the outputs need be kept.
"""

import sys

import numpy as np
import torch


def fill(state):
    """Give each parameter values that its place in the sorted names and its shape determine."""
    filled = {}
    for number, name in enumerate(sorted(state)):
        shape = state[name].shape
        values = np.sin(0.37 * np.arange(np.prod(shape)) ** 1.1 + number).reshape(shape)
        inputs = np.prod(shape[1:]) if len(shape) > 1 else 4
        filled[name] = torch.from_numpy(values * inputs**-0.5).float()
    return filled


def density():
    z, y, x = np.indices((32, 32, 32))
    value = 0.5 + 0.5 * np.sin(0.7 * z + 0.2 * y) * np.cos(0.5 * x - 0.1 * y)
    return torch.from_numpy(value[None, None]).float()


def main(path):
    from self_attention_cv.UnetTr import UNETR
    from self_attention_cv.UnetTr.UnetTr import TransformerEncoder

    out = {}
    for name, classes, blocks, heads, taps in (
        ("small", 21, 4, 6, [1, 2, 3, 4]),
        ("full", 4, 12, 12, [3, 6, 9, 12]),
    ):
        network = UNETR((32, 32, 32), 1, classes, num_heads=heads, ext_layers=taps)
        network.transformer = TransformerEncoder(768, heads, blocks, 0.0, taps, 3072)
        network.load_state_dict(fill(network.state_dict()))
        with torch.inference_mode():
            found = network.eval()(density())[0].numpy()
        out[name] = found[:, ::5, ::5, ::5]
        out[f"{name}_parameters"] = sum(p.numel() for p in network.parameters())
    np.savez_compressed(path, **out)


if __name__ == "__main__":
    main(sys.argv[1])
