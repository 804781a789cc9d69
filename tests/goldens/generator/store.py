"""Collects named tensors and writes them as one safetensors file."""

import torch
from safetensors.torch import save_file


class Store:
    """Tensors by name, each without its batch dimension of 1 where `batch` says so."""

    def __init__(self):
        self.tensors = {}

    def put(self, name, value, batch=True):
        value = torch.as_tensor(value).detach()
        if batch and value.ndim > 1:
            assert value.shape[0] == 1, (name, value.shape)
            value = value[0]
        assert name not in self.tensors, name
        assert not value.is_floating_point() or value.isfinite().all(), name
        self.tensors[name] = value.clone().contiguous()

    def __getitem__(self, name):
        return self.tensors[name].numpy()

    def save(self, path):
        save_file(self.tensors, path, metadata={"format": "pt"})


class Hooks:
    """Forward hooks that keep the last output (or the positional input) of modules."""

    def __init__(self):
        self.handles, self.outputs, self.inputs = [], {}, {}

    def watch(self, key, module):
        def hook(_, args, output):
            self.inputs[key], self.outputs[key] = args, output

        self.handles.append(module.register_forward_hook(hook))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for handle in self.handles:
            handle.remove()
