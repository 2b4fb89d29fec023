"""Products of matrices, and what attention makes of them."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from torch import Tensor, nn

from qanas.quantization.operators.matrix import MatrixProduct
from qanas.quantization.passes.masks import BLOCKING, blocked
from qanas.quantization.tracing.builder import Builder, Translators
from qanas.quantization.tracing.functions import gelu, relu, softmax
from qanas.quantization.tracing.layers import linear
from qanas.quantization.tracing.norms import layer_norm_module
from qanas.quantization.tracing.pointwise import Operand, add, multiply
from qanas.quantization.tracing.reductions import mean
from qanas.quantization.tracing.shapes import flatten, repeated, transpose, unflatten
from qanas.quantization.tracing.values import Value, new_axis


def matmul(builder: Builder, one: Operand, other: Operand, /) -> Value:
    """Take a product of two matrices, or of one with a constant, which is a linear layer."""
    if isinstance(other, Tensor) and isinstance(one, Value):
        return linear(builder, one, _matrix(other).T.contiguous())
    if isinstance(one, Tensor) and isinstance(other, Value):
        if len(other.torch) == 1:  # the batch is what torch multiplies over
            raise ValueError("a product over the batch; each sample must be computed by itself")
        return transpose(builder, linear(builder, transpose(builder, other, -2, -1), _matrix(one)), -2, -1)
    assert isinstance(one, Value)  # noqa: S101 - translators are called with at least one
    assert isinstance(other, Value)  # noqa: S101 - likewise
    if min(len(one.torch), len(other.torch)) < 2:  # noqa: PLR2004 - rows and columns
        raise ValueError(f"the matrix product of shapes {one.shape} and {other.shape}; take rows and columns of each")
    if len(one.torch) != len(other.torch):
        raise ValueError(f"the matrix product of shapes {one.shape} and {other.shape}; unsqueeze one of them")
    leading = [max(sizes) for sizes in zip(one.shape[:-2], other.shape[:-2], strict=True)]
    one, other = (repeated(builder, value, [*leading, *value.shape[-2:]]) for value in (one, other))
    *outer, rows, inner = one.torch
    first = builder.arranged(one, (*outer, rows, inner))
    *others, inside, columns = other.torch
    second = builder.arranged(other, (*others, columns, inside))
    # Both may be made of the same axis (a sequence and itself): columns are another one.
    axes = (*outer, rows, new_axis(other.shape[-1]))
    return builder.emit(MatrixProduct(), [first, second], axes, axes)


def _matrix(constant: Tensor) -> Tensor:
    while constant.ndim > 2 and constant.shape[0] == 1:  # noqa: PLR2004 - rows and columns
        constant = constant[0]
    if constant.ndim != 2:  # noqa: PLR2004 - likewise
        raise ValueError(f"a matrix product with a constant of shape {tuple(constant.shape)}; take rows and columns")
    return constant.detach()


def add_matmul(
    builder: Builder, bias: Tensor, one: Operand, other: Operand, /, *, beta: float = 1, alpha: float = 1
) -> Value:
    """Take a product of two matrices plus a constant."""
    if isinstance(other, Tensor) and isinstance(one, Value) and bias.ndim == 1:
        return linear(builder, one, alpha * _matrix(other).T.contiguous(), beta * bias.detach())
    product = matmul(builder, one, other)
    return add(builder, multiply(builder, product, alpha) if alpha != 1 else product, beta * bias)


def attention(  # noqa: PLR0913 - as torch has it
    builder: Builder,
    query: Value,
    key: Value,
    value: Value,
    /,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Value:
    """Take `F.scaled_dot_product_attention`."""
    del dropout_p
    if enable_gqa:
        raise ValueError("attention with grouped queries; repeat keys and values")
    factor = 1.0 / math.sqrt(query.shape[-1]) if scale is None else scale
    mask = _constant_mask("attn_mask", attn_mask)
    if mask is not None and mask.dtype == torch.bool:
        mask = ~mask
    masks = [mask, _later(query.shape[-2], key.shape[-2]) if is_causal else None]
    return _attended(builder, multiply(builder, query, factor), key, value, masks)[0]


def _attended(
    builder: Builder, query: Value, key: Value, value: Value, masks: Sequence[Tensor | None]
) -> tuple[Value, Value]:
    """Return what scaled queries find, and by which shares, shape (..., positions, keys).

    Args:
        builder: appends the operators.
        query: shape (..., positions, width).
        key: shape (..., keys, width).
        value: likewise.
        masks: of shape (..., positions, keys): bool, True where a key doesn't count, or numbers to be added.
    """
    scores = matmul(builder, query, transpose(builder, key, -2, -1))
    given = [mask for mask in masks if mask is not None]
    out = [mask for mask in given if mask.dtype == torch.bool]
    for mask in given:
        if mask.dtype != torch.bool:
            out += [] if (kept_out := blocked(mask)) is None else [kept_out]
            scores = add(builder, scores, mask.masked_fill(mask <= BLOCKING, 0.0) if kept_out is not None else mask)
    if out:
        together = functools.reduce(torch.logical_or, out)
        scores = add(builder, scores, torch.zeros(together.shape).masked_fill(together, -math.inf))
    shares = softmax(builder, scores, -1)
    return matmul(builder, shares, value), shares


def _later(queries: int, keys: int) -> Tensor:
    """Return which keys come behind a query, bool, shape (queries, keys)."""
    return torch.ones(queries, keys, dtype=torch.bool).triu(1)


def _constant_mask(name: str, mask: object) -> Tensor | None:
    """Return a mask that is no value of the network.

    Raises:
        ValueError: it depends on the input.
    """
    if mask is None or isinstance(mask, Tensor):
        return None if mask is None else mask.detach()
    raise ValueError(f"attention whose {name} depends on the input; take a constant one: every sample is of one length")


def multihead_attention(  # noqa: PLR0913, PLR0917 - as torch has it
    builder: Builder,
    module: nn.MultiheadAttention,
    query: Value,
    key: Value,
    value: Value,
    /,
    key_padding_mask: object = None,
    need_weights: bool = True,
    attn_mask: object = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> tuple[Value, Value | None]:
    """Take an `nn.MultiheadAttention` over (positions, width), and the shares that it gives out with them."""
    del is_causal  # a hint: torch demands the mask with it
    batch = _batch_of(module, query, key, value)
    query, key, value = (replace(part, batch=0) for part in (query, key, value))
    found, shares = _by_heads(builder, module, (query, key, value), key_padding_mask, attn_mask)
    if average_attn_weights and need_weights:
        shares = mean(builder, shares, 1)
    return replace(found, batch=batch), shares if need_weights else None


def _batch_of(module: nn.MultiheadAttention | nn.TransformerEncoderLayer, *values: Value) -> int:
    """Return where a module has the batch.

    Raises:
        ValueError: values have it elsewhere.
    """
    attention = module if isinstance(module, nn.MultiheadAttention) else module.self_attn
    batch = 0 if attention.batch_first else 1
    wrong = next((value.batch for value in values if value.batch != batch), None)
    if wrong is not None:
        raise ValueError(
            f"attention with batch_first = {attention.batch_first} and the batch as axis {wrong}; take batch_first = "
            "True, or put the positions in front"
        )
    return batch


def _by_heads(
    builder: Builder,
    module: nn.MultiheadAttention,
    values: Sequence[Value],
    key_padding_mask: object,
    attn_mask: object,
) -> tuple[Value, Value]:
    """Append attention of a query to keys and values, each of shape (positions, width) for a sample."""
    masks = [_constant_mask("attn_mask", attn_mask), _constant_mask("key_padding_mask", key_padding_mask)]
    if masks[0] is not None and masks[0].ndim > 2:  # noqa: PLR2004 - one a head, the batch of 1 with them
        masks[0] = masks[0][: module.num_heads]
    if masks[1] is not None and len(masks[1]) != 1:
        raise ValueError("attention whose key_padding_mask is of several samples; give one for all, of shape (1, keys)")
    for name, wanted in (("bias_k", None), ("add_zero_attn", False)):
        if getattr(module, name) != wanted:
            raise ValueError(f"attention with {name} = {getattr(module, name)}; take {name} = {wanted}")
    weights, biases = _projections(module)
    # The queries' factor goes into their weights: one operator less.
    factor = 1.0 / math.sqrt(module.head_dim)
    weights[0], biases[0] = weights[0] * factor, biases[0] * factor
    asked, keys, contents = (
        transpose(builder, unflatten(builder, linear(builder, part, weight, bias), -1, (module.num_heads, -1)), 1, 2)
        for part, weight, bias in zip(values, weights, biases, strict=True)
    )
    found, shares = _attended(builder, asked, keys, contents, masks)
    found = flatten(builder, transpose(builder, found, 1, 2), 2, 3)
    return linear(builder, found, module.out_proj.weight, module.out_proj.bias), shares


def _projections(module: nn.MultiheadAttention) -> tuple[list[Tensor], list[Tensor]]:
    """Return weights and biases of queries, keys and values."""
    if module.in_proj_weight is not None:
        weights = list(module.in_proj_weight.detach().chunk(3))
    else:
        weights = [part.detach() for part in (module.q_proj_weight, module.k_proj_weight, module.v_proj_weight)]
    bias = module.in_proj_bias
    biases = [weight.new_zeros(len(weight)) for weight in weights] if bias is None else list(bias.detach().chunk(3))
    return weights, biases


def encoder_layer(
    builder: Builder,
    module: nn.TransformerEncoderLayer,
    value: Value,
    /,
    src_mask: object = None,
    src_key_padding_mask: object = None,
    is_causal: bool = False,
) -> Value:
    """Take an `nn.TransformerEncoderLayer` over (positions, width), norms in front or behind."""
    del is_causal
    batch = _batch_of(module, value)
    return replace(_encoded(builder, module, replace(value, batch=0), src_mask, src_key_padding_mask), batch=batch)


def _encoded(
    builder: Builder, module: nn.TransformerEncoderLayer, value: Value, mask: object, padding: object
) -> Value:
    """Append an encoder's layer over (positions, width) with the batch in front."""
    inner = layer_norm_module(builder, module.norm1, value) if module.norm_first else value
    found, _ = _by_heads(builder, module.self_attn, (inner, inner, inner), padding, mask)
    value = add(builder, value, found)
    value = value if module.norm_first else layer_norm_module(builder, module.norm1, value)
    inner = layer_norm_module(builder, module.norm2, value) if module.norm_first else value
    hidden = linear(builder, inner, module.linear1.weight, module.linear1.bias)
    hidden = _activated(builder, module, hidden)
    value = add(builder, value, linear(builder, hidden, module.linear2.weight, module.linear2.bias))
    return value if module.norm_first else layer_norm_module(builder, module.norm2, value)


def _activated(builder: Builder, module: nn.TransformerEncoderLayer, hidden: Value) -> Value:
    if module.activation is F.relu or isinstance(module.activation, nn.ReLU):
        return relu(builder, hidden)
    if module.activation is F.gelu or isinstance(module.activation, nn.GELU):
        return gelu(builder, hidden)
    raise ValueError(f"an encoder with the activation {module.activation}; take relu or gelu")


def encoder(
    builder: Builder,
    module: nn.TransformerEncoder,
    value: Value,
    /,
    mask: object = None,
    src_key_padding_mask: object = None,
    is_causal: bool | None = None,
) -> Value:
    """Take an `nn.TransformerEncoder`."""
    for layer in module.layers:
        if type(layer) is not nn.TransformerEncoderLayer:
            raise ValueError(f"an encoder of {type(layer).__name__}; call its layers one by one")
        value = encoder_layer(builder, layer, value, mask, src_key_padding_mask, bool(is_causal))
    if module.norm is None:
        return value
    if not isinstance(module.norm, nn.LayerNorm):
        raise ValueError(f"an encoder with {type(module.norm).__name__} behind it; call it by itself")  # noqa: TRY004
    return replace(layer_norm_module(builder, module.norm, replace(value, batch=0)), batch=value.batch)


TRANSLATORS = Translators(
    functions={
        **dict.fromkeys((torch.matmul, torch.bmm, torch.mm, operator.matmul, "matmul", "bmm", "mm"), matmul),
        **dict.fromkeys((torch.addmm, torch.baddbmm, "addmm"), add_matmul),
        F.scaled_dot_product_attention: attention,
    },
    modules={
        nn.MultiheadAttention: multihead_attention,
        nn.TransformerEncoderLayer: encoder_layer,
        nn.TransformerEncoder: encoder,
    },
)
