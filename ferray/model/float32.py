"""What float32 means: 24 bits of a product's factors, on GPUs too.

From the Ampere generation on, cuDNN's convolutions round factors to the 11 bits of TF32 unless that is switched off,
and a recipe that says float32 would have the numbers of another format, which nothing records.
"""

import torch


def switch_tf32_off() -> None:
    """Let this process compute float32 in full, also on GPUs that would use TF32; without effect on a CPU."""
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
