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
from qanas.quantization.tracing.joining import stacked
from qanas.quantization.tracing.layers import linear
from qanas.quantization.tracing.norms import layer_norm_module
from qanas.quantization.tracing.parts import along
from qanas.quantization.tracing.pointwise import Operand, add, multiply
from qanas.quantization.tracing.reductions import mean
from qanas.quantization.tracing.shapes import flatten, repeated, squeeze, transpose, unflatten
from qanas.quantization.tracing.values import Value, new_axis


def matmul(builder: Builder, one: Operand, other: Operand, /) -> Value:
    """Take a product of two matrices, or of one with a constant, which is a linear layer."""
    for value, constant in ((one, other), (other, one)):
        if isinstance(constant, Tensor) and isinstance(value, Value):
            if constant.ndim == 1:
                return _with_vector(builder, value, constant, in_front=constant is one)
            return _with_matrix(builder, value, _within(constant, len(value.torch)), in_front=constant is one)
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


def _with_vector(builder: Builder, value: Value, constant: Tensor, *, in_front: bool) -> Value:
    """Return the product of a value's rows, or with ``in_front`` of its columns, with a constant vector."""
    if in_front and len(value.torch) == 1:  # the batch is what torch multiplies over
        raise ValueError("a product over the batch; each sample must be computed by itself")
    rows = transpose(builder, value, -2, -1) if in_front else value
    return squeeze(builder, linear(builder, rows, constant.detach()[None]), -1)


def _with_matrix(builder: Builder, value: Value, constant: Tensor, *, in_front: bool) -> Value:
    """Return the product of a value with a constant: a linear layer, or one for each part that has a matrix of its own.

    Args:
        builder: appends the operators.
        value: shape (..., rows, columns), or (features,) in front of the constant.
        constant: shape (..., rows, columns), leading axes of size 1 left out.
        in_front: whether the constant is the first of both.
    """
    if constant.ndim > 2:  # noqa: PLR2004 - rows and columns
        place = len(value.torch) - constant.ndim
        if value.shape[place] not in {1, len(constant)}:
            raise ValueError(
                f"a matrix product of shape {value.shape} with a constant of shape {tuple(constant.shape)}; "
                "leading axes must be equal, or 1"
            )
        if len(constant) > MOST_MATRICES:
            raise ValueError(
                f"a matrix product with {len(constant)} constant matrices, one after the other; {MOST_MATRICES} at most"
            )
        parts = [
            along(builder, value, place + 1, 0 if value.shape[place] == 1 else number)
            for number in range(len(constant))
        ]
        found = [
            _with_matrix(builder, part, _within(matrix, len(part.torch)), in_front=in_front)
            for part, matrix in zip(parts, constant, strict=True)
        ]
        return stacked(builder, found, place + 1)
    if not in_front:
        return linear(builder, value, _matrix(constant).T.contiguous())
    if len(value.torch) == 1:  # the batch is what torch multiplies over
        raise ValueError("a product over the batch; each sample must be computed by itself")
    return transpose(builder, linear(builder, transpose(builder, value, -2, -1), _matrix(constant)), -2, -1)


MOST_MATRICES = 64
"""Parts of a value that a constant has matrices of their own for."""


def _within(constant: Tensor, rank: int) -> Tensor:
    """Return a constant without leading axes of size 1, the batch of 1 among them.

    Raises:
        ValueError: it has more axes than a sample of so many.
    """
    inner = _without_ones(constant)
    if inner.ndim > max(rank, 2):
        raise ValueError(f"a matrix product with a constant of shape {tuple(constant.shape)}; take rows and columns")
    return inner


def _without_ones(constant: Tensor) -> Tensor:
    """Return a constant without axes of size 1 in front of its rows and columns."""
    while constant.ndim > 2 and constant.shape[0] == 1:  # noqa: PLR2004 - rows and columns
        constant = constant[0]
    return constant


def _matrix(constant: Tensor) -> Tensor:
    constant = _without_ones(constant)
    if constant.ndim != 2:  # noqa: PLR2004 - rows and columns
        raise ValueError(f"a matrix product with a constant of shape {tuple(constant.shape)}; take rows and columns")
    return constant.detach()


def add_matmul(
    builder: Builder, bias: Operand, one: Operand, other: Operand, /, *, beta: float = 1, alpha: float = 1
) -> Value:
    """Take a product of two matrices plus a value or a constant."""
    if isinstance(other, Tensor) and isinstance(one, Value) and isinstance(bias, Tensor) and bias.ndim == 1:
        return linear(builder, one, alpha * _matrix(other).T.contiguous(), beta * bias.detach())
    if not isinstance(one, Value) and not isinstance(other, Value):
        raise ValueError("a product of two constants that is added to a value; take it apart: x + a @ b")  # noqa: TRY004
    product = matmul(builder, one, other)
    product = multiply(builder, product, alpha) if alpha != 1 else product
    if beta == 0:  # torch doesn't even look at it then
        return product
    if isinstance(bias, Value):
        return add(builder, multiply(builder, bias, beta) if beta != 1 else bias, product)
    return add(builder, product, beta * bias)


Part = Value | Tensor
"""Of attention: queries, keys or values; those that are learned are constants."""


def attention(  # noqa: PLR0913 - as torch has it
    builder: Builder,
    query: Part,
    key: Part,
    value: Part,
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
    scores = _scores(builder, factor * query if isinstance(query, Tensor) else multiply(builder, query, factor), key)
    return _attended(builder, scores, value, masks)[0]


def _scores(builder: Builder, query: Part, key: Part) -> Value:
    """Return how scaled queries, shape (..., positions, width), and keys, shape (..., keys, width), agree.

    Raises:
        ValueError: neither of them depends on the input.
    """
    if not isinstance(query, Value) and not isinstance(key, Value):
        raise ValueError("attention of constant queries to constant keys; take its shares as a constant matrix")  # noqa: TRY004
    return matmul(builder, query, key.mT if isinstance(key, Tensor) else transpose(builder, key, -2, -1))


def _attended(builder: Builder, scores: Value, value: Part, masks: Sequence[Tensor | None]) -> tuple[Value, Value]:
    """Return what is found by scores, and by which shares, both of shape (..., positions, keys).

    Args:
        builder: appends the operators.
        scores: of queries and keys.
        value: shape (..., keys, width).
        masks: of the scores' shape: bool, True where a key doesn't count, or numbers to be added.
    """
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
    query: Part,
    key: Part,
    value: Part,
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
    given = [_of_a_sample(part, batch) for part in (query, key, value)]
    found, shares = _by_heads(builder, module, given, key_padding_mask, attn_mask)
    if average_attn_weights and need_weights:
        shares = mean(builder, shares, 1)
    return replace(found, batch=batch), shares if need_weights else None


def _of_a_sample(part: Part, batch: int) -> Part:
    """Return queries, keys or values with the batch in front; constants, such as learned queries, without it.

    Raises:
        ValueError: a constant of several samples.
    """
    if isinstance(part, Value):
        return replace(part, batch=0)
    constant = part.detach()
    if constant.ndim != 3 or constant.shape[batch] != 1:  # noqa: PLR2004 - the batch, positions, width
        raise ValueError(
            f"attention with a constant of shape {tuple(constant.shape)}; give it an axis for the batch, of the size "
            "of the other's"
        )
    return constant.squeeze(batch)


def _batch_of(module: nn.MultiheadAttention | nn.TransformerEncoderLayer, *values: Part) -> int:
    """Return where a module has the batch.

    Raises:
        ValueError: values have it elsewhere.
    """
    attention = module if isinstance(module, nn.MultiheadAttention) else module.self_attn
    batch = 0 if attention.batch_first else 1
    wrong = next((value.batch for value in values if isinstance(value, Value) and value.batch != batch), None)
    if wrong is not None:
        raise ValueError(
            f"attention with batch_first = {attention.batch_first} and the batch as axis {wrong}; take batch_first = "
            "True, or put the positions in front"
        )
    return batch


def _by_heads(
    builder: Builder,
    module: nn.MultiheadAttention,
    values: Sequence[Part],
    key_padding_mask: object,
    attn_mask: object,
) -> tuple[Value, Value]:
    """Append attention of a query to keys and values, each of shape (positions, width) for a sample."""
    masks = [_constant_mask("attn_mask", attn_mask), _constant_mask("key_padding_mask", key_padding_mask)]
    if masks[0] is not None and masks[0].ndim > 2:  # noqa: PLR2004 - one a head, the batch of 1 with them
        masks[0] = masks[0][: module.num_heads]
    if masks[1] is not None and len(masks[1]) != 1:
        raise ValueError("attention whose key_padding_mask is of several samples; give one for all, of shape (1, keys)")
    for name, there in (("add_bias_kv", module.bias_k is not None), ("add_zero_attn", module.add_zero_attn)):
        if there:
            raise ValueError(f"attention with {name} = True; take {name} = False")
    weights, biases = _projections(module)
    # The queries' factor goes into their weights: one operator less.
    factor = 1.0 / math.sqrt(module.head_dim)
    weights[0], biases[0] = weights[0] * factor, biases[0] * factor
    query, key, value = values
    contents = _heads(builder, value, weights[2], biases[2], module.num_heads)
    if isinstance(query, Tensor) and isinstance(key, Value) and module.num_heads * len(query) <= module.embed_dim:
        asked = _heads(builder, query, weights[0], biases[0], module.num_heads)
        scores = _folded_scores(builder, asked, key, weights[1])
    else:
        asked, keys = (
            _heads(builder, part, weight, bias, module.num_heads)
            for part, weight, bias in zip((query, key), weights[:2], biases[:2], strict=True)
        )
        scores = _scores(builder, asked, keys)
    found, shares = _attended(builder, scores, contents, masks)
    found = flatten(builder, transpose(builder, found, 1, 2), 2, 3)
    with builder.within("out_proj"):
        return linear(builder, found, module.out_proj.weight, module.out_proj.bias), shares


def _heads(builder: Builder, part: Part, weight: Tensor, bias: Tensor, heads: int) -> Part:
    """Return a projection of shape (positions, width), head by head: (heads, positions, width / heads)."""
    if isinstance(part, Tensor):
        return F.linear(part, weight, bias).reshape(len(part), heads, -1).transpose(0, 1)
    return transpose(builder, unflatten(builder, linear(builder, part, weight, bias), -1, (heads, -1)), 1, 2)


def _folded_scores(builder: Builder, asked: Part, key: Value, weight: Tensor) -> Value:
    """Return the scores of few constant queries, shape (heads, positions, keys), as a linear layer of the features.

    The keys' bias adds the same to all scores of a query, which a softmax doesn't see.

    Args:
        builder: appends the operators.
        asked: constant, shape (heads, positions, width / heads).
        key: shape (keys, features).
        weight: of the keys' projection, shape (width, features).
    """
    assert isinstance(asked, Tensor)  # noqa: S101 - looked at before
    heads, positions, width = asked.shape
    folded = asked @ weight.reshape(heads, width, -1)
    scores = transpose(builder, linear(builder, key, folded.flatten(0, 1).contiguous()), 1, 2)
    return unflatten(builder, scores, 1, (heads, positions))


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
    inner = _normed(builder, module, "norm1", value) if module.norm_first else value
    with builder.within("self_attn"):
        found, _ = _by_heads(builder, module.self_attn, (inner, inner, inner), padding, mask)
    value = add(builder, value, found)
    value = value if module.norm_first else _normed(builder, module, "norm1", value)
    inner = _normed(builder, module, "norm2", value) if module.norm_first else value
    with builder.within("linear1"):
        hidden = _activated(builder, module, linear(builder, inner, module.linear1.weight, module.linear1.bias))
    with builder.within("linear2"):
        hidden = linear(builder, hidden, module.linear2.weight, module.linear2.bias)
    value = add(builder, value, hidden)
    return value if module.norm_first else _normed(builder, module, "norm2", value)


def _normed(builder: Builder, module: nn.TransformerEncoderLayer, name: str, value: Value) -> Value:
    with builder.within(name):
        return layer_norm_module(builder, getattr(module, name), value)


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
    for number, layer in enumerate(module.layers):
        if type(layer) is not nn.TransformerEncoderLayer:
            raise ValueError(f"an encoder of {type(layer).__name__}; call its layers one by one")
        with builder.within(f"layers_{number}"):
            value = encoder_layer(builder, layer, value, mask, src_key_padding_mask, bool(is_causal))
    if module.norm is None:
        return value
    if not isinstance(module.norm, nn.LayerNorm):
        raise ValueError(f"an encoder with {type(module.norm).__name__} behind it; call it by itself")  # noqa: TRY004
    with builder.within("norm"):
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
