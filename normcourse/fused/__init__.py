"""Fused Triton kernels: `norms.layer_norm` and `norms.rms_norm` in one launch, alone or with the addition before them.

    layer_norm_kernels   start reading here: each kernel with its maths above it
    rms_norm_kernels     the same without the mean
    tiles                how much of the matrix a program takes
    launch               from tensors to launches
    ops                  the launches as operators of torch, and their derivatives
    functional           layer_norm, rms_norm, add_layer_norm, add_rms_norm: what to call
    modules              LayerNorm, RMSNorm, to be passed as norm=, and PreNormStack, fused across block borders
    replacing            replace: the norms of a model that is there, recognised by what they compute
    interpreter          triton with and without a GPU
    compiled             compile for GPUs that are not there, and read the registers and the loads
    traffic              the bytes that each moves beside the fewest possible: backward of rows beyond 8192 reads x and
                         dy twice, 1.5 to 1.7 of the fewest, and what stands in the way of less

On a machine without CUDA, import this before anything imports triton: it then runs in Triton's interpreter, on CPU.
Kernels of your own beside these need TRITON_INTERPRET=1 in the environment, as ever; it is set here only for a moment.
(Triton 3.6 interprets only with numpy < 2.4.)
"""

from .interpreter import chosen

with chosen():
    from .functional import add_layer_norm, add_rms_norm, layer_norm, rms_norm
    from .modules import LayerNorm, PreNormStack, RMSNorm
    from .replacing import Replacement, replace

__all__ = ["LayerNorm", "PreNormStack", "RMSNorm", "Replacement", "add_layer_norm", "add_rms_norm", "layer_norm"]
__all__ += ["replace", "rms_norm"]
