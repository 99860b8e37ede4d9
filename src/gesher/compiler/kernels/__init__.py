"""The hand-tuned C kernels: one row each. To add one, write a header with its plain version, a row here, and a test.

A kernel is a `static` C function in a header of this folder. Its plain version stands in the same file, computes the
same by the obvious loops, takes the same arguments, and is the tests' truth together with `meaning`, a numpy
function. The emitter includes the header, fills the kernel's struct and calls it; a kernel that needs working memory
has a `..._scratch` function that tells how many floats.

What a reader would guess wrong: no kernel is a template. What follows a product or convolution is a C function that
the kernel calls with each finished rectangle while it is in L1 (`GsTileFn` in gs_gemm_f32.h).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .. import runtime
from . import meanings


@dataclass(frozen=True, slots=True)
class Kernel:
    """One row of the table.

    Attributes:
        name: the C function.
        file: the header that has it; include this.
        does: what it computes, in words.
        plain: the C function of the same meaning by the obvious loops.
        meaning: the same in numpy.
        needs: CPU features beyond the vectors of the instruction set at hand, as `cpu.Cpu.features` names them.
    """

    name: str
    file: str
    does: str
    plain: str
    meaning: Callable[..., Any]
    needs: frozenset[str] = frozenset()

    @property
    def signature(self) -> str:
        """The C prototype, read from the header."""
        return prototype(self.file, self.name)


def prototype(file: str, name: str) -> str:
    """The C prototype of the function `name` in the header `file`, on one line; KeyError where it has none.

    >>> prototype("gs_gemm_f32.h", "gs_gemm_f32")
    'void gs_gemm_f32(const GsGemm* g, GsPool* pool)'
    """
    # Bodies for several types name their functions by a macro: GS_TREE(_run).
    text = re.sub(r'#include "(gs_\w+\.inc)"', lambda m: runtime.text_of(m[1]), runtime.text_of(file))
    macros = re.findall(r"#define (GS_\w+)\(name\) (\w+)##name", text)
    text += "".join(re.sub(rf"{macro}\((\w+)\)", rf"{prefix}\1", text) for macro, prefix in macros)
    # So do their types.
    words = dict(re.findall(r"^#define (GS_[A-Z_]+) (\w+)$", runtime.text_of(file), re.MULTILINE))
    text = re.sub(r"\bGS_[A-Z_]+\b", lambda m: words.get(m[0], m[0]), text)
    found = re.search(rf"^(?:GS_\w+|static)\s+((?:const )?\w+\**\s+{name}\([^)]*\))\s*{{", text, re.MULTILINE)
    if not found:
        raise KeyError(f"{file} has no function {name}")
    return " ".join(found[1].split())


_CONV, _CONVT = meanings.convolution, meanings.convolution_transposed

KERNELS: tuple[Kernel, ...] = (
    Kernel("gs_gemm_f32", "gs_gemm_f32.h", "batched matrix product, any strides, bias, epilogue",
           "gs_gemm_f32_plain", meanings.gemm),
    Kernel("gs_gemm_bf16", "gs_gemm_bf16.h", "batched product of floats rounded to bfloat16, sums in float, epilogue",
           "gs_gemm_bf16_plain", meanings.gemm_bf16),
    Kernel("gs_gemm_i8", "gs_gemm_i8.h", "batched product of 8-bit integers in 32 bits, zero points, epilogue",
           "gs_gemm_i8_plain", meanings.integer_gemm),
    *(Kernel(name, "gs_conv_i8.h", f"convolution of bytes of rank 2, channels last, {what}", "gs_conv_i8_plain", _CONV)
      for name, what in (("gs_conv_i8", "with groups"), ("gs_depthwise_i8", "of each channel by itself"))),
    Kernel("gs_range_f32", "gs_range_f32.h", "the least and the largest of floats", "gs_range_f32_plain",
           meanings.extent),
    Kernel("gs_window_i8", "gs_conv_i8.h", "maxima of bytes over windows of rank 2, channels last",
           "gs_window_i8_plain", meanings.pooling),
    Kernel("gs_gemm_f64", "gs_gemm_f64.h", "the same of doubles", "gs_gemm_f64_plain", meanings.gemm),
    *(Kernel(f"gs_gemm_{t}_run", "gs_gemm_tiled.h", f"batched matrix product of {what}",
             f"gs_gemm_{t}_plain", meanings.gemm)
      for t, what in (("u32", "32-bit whole numbers"), ("u64", "64-bit whole numbers"))),
    Kernel("gs_conv2d_f32", "gs_conv_f32.h", "convolution of rank 2 with groups as a product with patches",
           "gs_conv_f32_plain", _CONV),
    Kernel("gs_depthwise2d_f32", "gs_conv_f32.h", "convolution of rank 2 of each channel by itself",
           "gs_conv_f32_plain", _CONV),
    Kernel("gs_conv_transpose2d_f32", "gs_conv_f32.h", "transposed convolution of rank 2",
           "gs_conv_transpose_f32_plain", _CONVT),
    Kernel("gs_blocked_conv_f32", "gs_blocked_f32.h", "convolution of rank 2 with groups over blocked channels",
           "gs_blocked_conv_f32_plain", _CONV),
    Kernel("gs_blocked_strassen_f32", "gs_blocked_strassen_f32.h", "convolution of single taps by seven products",
           "gs_blocked_strassen_f32_plain", _CONV),
    Kernel("gs_blocked_winograd_f32", "gs_winograd_f32.h", "convolution of 3 x 3 over blocked channels by Winograd",
           "gs_blocked_winograd_f32_plain", _CONV),
    Kernel("gs_blocked_depthwise_f32", "gs_blocked_depthwise_f32.h", "depthwise convolution over blocked channels",
           "gs_blocked_depthwise_f32_plain", _CONV),
    Kernel("gs_blocked_grouped_f32", "gs_blocked_grouped_f32.h", "convolution of narrow groups over blocked channels",
           "gs_blocked_grouped_f32_plain", _CONV),
    Kernel("gs_blocked_depthwise_bf16", "gs_blocked_depthwise_bf16.h", "the same, of pictures kept as bfloat16",
           "gs_blocked_depthwise_bf16_plain", _CONV),
    Kernel("gs_blocked_window_f32", "gs_blocked_window_f32.h", "max and mean pooling over blocked channels",
           "gs_blocked_window_f32_plain", meanings.pooling),
    Kernel("gs_blocked_from_plain", "gs_blocked_move_f32.h", "channels into blocks",
           "gs_blocked_from_plain_plain", meanings.blocked),
    Kernel("gs_blocked_to_plain", "gs_blocked_move_f32.h", "channels out of their blocks",
           "gs_blocked_to_plain_plain", meanings.unblocked),
    Kernel("gs_blocked_conv_bf16", "gs_blocked_bf16.h", "convolution over blocked channels, rounded to bfloat16",
           "gs_blocked_conv_bf16_plain", meanings.convolution_bf16),
    Kernel("gs_softmax_f32", "gs_rows_f32.h", "softmax or its logarithm along any axis",
           "gs_softmax_f32_plain", meanings.softmax),
    Kernel("gs_gemm_bits_f32", "gs_gemm_bits_f32.h", "matrix product with weights of 4 or 8 bits, scaled by blocks",
           "gs_gemm_bits_f32_plain", meanings.gemm),
    Kernel("gs_attention_f32", "gs_attention_f32.h", "attention: masks, windows, heads that share keys, any strides",
           "gs_attention_f32_plain", meanings.attention),
    Kernel("gs_attention_bf16", "gs_attention_bf16.h", "the same, with products of floats rounded to bfloat16",
           "gs_attention_bf16_plain", meanings.attention_bf16),
    Kernel("gs_layer_norm_f32", "gs_rows_f32.h", "layer or RMS normalisation of rows",
           "gs_layer_norm_f32_plain", meanings.layer_norm),
    Kernel("gs_reduce_f32", "gs_reduce_f32.h", "sum, mean, max, min, prod, l1, l2, sum of squares along any axis",
           "gs_reduce_f32_plain", meanings.reduction),
    Kernel("gs_window2d_f32", "gs_window_f32.h", "max and mean pooling of rank 2 without indices",
           "gs_window_f32_plain", meanings.pooling),
    Kernel("gs_recurrent_f32", "gs_recurrent_f32.h", "RNN, GRU and LSTM in one direction",
           "gs_recurrent_f32_plain", meanings.recurrent),
    Kernel("gs_select_run", "gs_select.h", "the k largest or smallest along any axis, in order; a sort with k = n",
           "gs_select_plain", meanings.select),
    Kernel("gs_argmax_f32", "gs_along_f32.h", "where the largest or smallest stands along any axis",
           "gs_argmax_f32_plain", meanings.extreme),
    Kernel("gs_argmax_f64", "gs_argmax_f64.h", "where the largest or smallest double stands along any axis",
           "gs_argmax_f64_plain", meanings.extreme),
    Kernel("gs_inverse", "gs_inverse.h", "inverses of square matrices of doubles",
           "gs_inverse_plain", meanings.inverse),
    Kernel("gs_col2im", "gs_col2im.h", "windows put back into pictures, added up where they overlap",
           "gs_col2im_plain", meanings.put_back),
    Kernel("gs_cumsum_f32", "gs_along_f32.h", "running sums along an axis that is not the last",
           "gs_cumsum_f32_plain", meanings.running_sum),
    Kernel("gs_transpose", "gs_move.h", "transposition of elements of 1 to 16 bytes",
           "gs_transpose_plain", meanings.transpose),
    Kernel("gs_bytes", "gs_bytes.h", "bytes through a table", "gs_bytes_plain", meanings.looked_up),
    Kernel("gs_dft", "gs_dft.h", "discrete Fourier transforms of doubles along any axis, of any length",
           "gs_dft_plain", meanings.dft),
    Kernel("gs_nearest", "gs_nearest.h", "elements taken along two neighbouring axes",
           "gs_nearest_plain", meanings.nearest),
    Kernel("gs_mix_f32", "gs_mix_f32.h", "sums of weighted elements along any axis",
           "gs_mix_f32_plain", meanings.mixed),
    Kernel("gs_sample_f32", "gs_sample_f32.h", "weighted elements of planes, at places that all channels share",
           "gs_sample_f32_plain", meanings.sampled),
    Kernel("gs_gather", "gs_move.h", "slices gathered along an axis",
           "gs_gather_plain", meanings.gather),
    Kernel("gs_ranked_f32_run", "gs_ranked.h", "sums of tree ensembles over floats as whole numbers",
           "gs_ranked_f32_plain", meanings.trees),
    Kernel("gs_ranked_f64_run", "gs_ranked.h", "sums of tree ensembles over doubles as whole numbers",
           "gs_ranked_f64_plain", meanings.trees),
    Kernel("gs_trees_f32_run", "gs_trees.h", "tree ensembles over floats",
           "gs_trees_f32_plain", meanings.trees),
    Kernel("gs_trees_f64_run", "gs_trees.h", "tree ensembles over doubles",
           "gs_trees_f64_plain", meanings.trees),
)


def kernel(name: str) -> Kernel:
    """The row of the C function `name`; KeyError for an unknown one."""
    for row in KERNELS:
        if row.name == name:
            return row
    raise KeyError(name)
