"""A classifier as one graph, from pictures to calibrated probabilities, for use without ferray.

Shapes: B pictures, S pixels along a side, C colors, K classes.

Begin at `Inference`; `trace` makes the graph that `ferray.train.checkpoints.portable` writes.
"""

import math

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from ferray.metrics.calibration import SMALLEST
from ferray.model.classifier import Classifier

INPUT, OUTPUT, BATCH = "pictures", "probabilities", "batch"
"""Names in the graph: of what goes in, of what comes out, and of the dimension of any size."""


class Inference(nn.Module):
    """Normalization, trunk, head, temperature and softmax as one module.

    Args:
        classifier: The model, in evaluation mode.
        temperature: Divisor of the logits.
    """

    def __init__(self, classifier: Classifier, *, temperature: float) -> None:
        super().__init__()
        self.classifier = classifier
        self.temperature = temperature
        self.smallest = nn.Buffer(torch.tensor(math.log(SMALLEST)), persistent=False)

    @torch.no_grad()
    def forward(self, pictures: Tensor) -> Tensor:
        """Probabilities in float32, shape (B, K); every row sums to 1.

        Args:
            pictures: RGB, uint8, of the recipe's size, shape (B, S, S, C), on the device of this module.
        """
        logits_BK: Tensor = self.classifier(pictures)
        # As `ferray.metrics.calibration`, which has only probabilities: a high temperature would show what was below.
        log_p_BK = torch.maximum(logits_BK.log_softmax(dim=1), self.smallest)
        return (log_p_BK / self.temperature).softmax(dim=1)

    @property
    def num_parameters(self) -> int:
        """Weights and biases, frozen ones included."""
        return sum(parameter.numel() for parameter in self.parameters())


def trace(module: Inference, *, size_px: int) -> ExportedProgram:
    """The module as a graph of torch's operators for batches of any size.

    Args:
        module: On the CPU; its weights are brought to torch's usual memory format, and need no gradient afterwards.
        size_px: S.
    """
    module.to(memory_format=torch.contiguous_format).requires_grad_(False)
    sample_BSSC = torch.zeros((2, size_px, size_px, 3), dtype=torch.uint8)  # 2: torch takes a batch of 1 for a constant
    with torch.no_grad():  # else the graph has an operator that turns gradients off
        program = torch.export.export(module, (sample_BSSC,), dynamic_shapes={INPUT: {0: Dim(BATCH, min=1)}})
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # it names files of this machine
    return program
