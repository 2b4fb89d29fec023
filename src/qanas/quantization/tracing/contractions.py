"""Sums of products over named axes: `einsum` and `tensordot`, as products of matrices or linear layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod

import torch
from torch import Tensor

from qanas.quantization.tracing.attention import matmul
from qanas.quantization.tracing.batches import permuted
from qanas.quantization.tracing.builder import Builder, Translators
from qanas.quantization.tracing.joining import stacked
from qanas.quantization.tracing.layers import linear
from qanas.quantization.tracing.parts import along
from qanas.quantization.tracing.pointwise import multiply
from qanas.quantization.tracing.reductions import total
from qanas.quantization.tracing.shapes import permute, reshape
from qanas.quantization.tracing.values import Value

Operand = Value | Tensor

MOST_UNROLLED = 64
"""Products with a matrix of their own that are computed one after the other."""


def einsum(builder: Builder, equation: str, /, *operands: Operand | Sequence[Operand]) -> Value:
    """Take a sum of products; of more than two operands two at a time, from the left."""
    given: list[Operand] = []
    for entry in operands:
        given += [entry] if isinstance(entry, Value | Tensor) else entry
    terms, result = _parsed(equation, [_rank(one) for one in given])
    if len(given) > 2:  # noqa: PLR2004 - a product
        needed = {*result, *"".join(terms[2:])}
        kept = "".join(name for name in dict.fromkeys(terms[0] + terms[1]) if name in needed)
        first = _pair(builder, given[0], terms[0], given[1], terms[1], kept)
        return einsum(builder, f"{','.join([kept, *terms[2:]])}->{result}", first, *given[2:])
    batch = next(term[one.batch] for term, one in zip(terms, given, strict=True) if isinstance(one, Value))
    for term, one in zip(terms, given, strict=True):
        if len(set(term)) < len(term):
            raise ValueError(f"einsum('{equation}'), which takes a diagonal; multiply by a mask and sum")
        if (batch in term) != isinstance(one, Value) or (isinstance(one, Value) and term[one.batch] != batch):
            raise ValueError(f"einsum('{equation}'), which mixes samples; each must be computed by itself")
    if batch not in result:
        raise ValueError(f"einsum('{equation}'), a sum over the batch; each sample must be computed by itself")
    # Samples have no axis for the batch: where the result has it is told at the end.
    names = [term.replace(batch, "") for term in terms]
    wanted = result.replace(batch, "")
    samples = [replace(one, batch=0) if isinstance(one, Value) else one.detach() for one in given]
    found, axes = _contracted(builder, samples, names, wanted)
    found = permute(builder, found, [0, *(axes.index(name) + 1 for name in wanted)])
    place = result.index(batch)
    return permuted(found, [*range(1, place + 1), 0, *range(place + 1, len(wanted) + 1)]) if place else found


def _pair(builder: Builder, one: Operand, left: str, other: Operand, right: str, kept: str) -> Operand:
    """Return a sum of products of two operands, axes named by letters; of constants a constant."""
    if isinstance(one, Value) or isinstance(other, Value):
        return einsum(builder, f"{left},{right}->{kept}", one, other)
    numbers = {name: number for number, name in enumerate(dict.fromkeys(left + right))}
    axes = [[numbers[name] for name in names] for names in (left, right, kept)]
    product: Tensor = torch.einsum(one.detach(), axes[0], other.detach(), axes[1], axes[2])
    return product


def tensordot(builder: Builder, one: Operand, other: Operand, /, dims: int | Sequence[Sequence[int]] = 2) -> Value:
    """Take a sum of products over axes that are given for each operand."""
    first, second = _rank(one), _rank(other)
    if isinstance(dims, int):
        dims = (range(first - dims, first), range(dims))
    pairs = [
        (left % first, right % second)
        for left, right in zip(*([axes] if isinstance(axes, int) else list(axes) for axes in dims), strict=True)
    ]
    letters = [chr(ord("A") + number) for number in range(first)]
    others = [chr(ord("a") + number) for number in range(second)]
    for left, right in pairs:
        others[right] = letters[left]
    summed = {letters[left] for left, _ in pairs}
    result = [name for name in (*letters, *others) if name not in summed]
    return einsum(builder, f"{''.join(letters)},{''.join(others)}->{''.join(result)}", one, other)


def _rank(one: Operand) -> int:
    return len(one.whole_shape) if isinstance(one, Value) else one.ndim


def _parsed(equation: str, ranks: Sequence[int]) -> tuple[list[str], str]:
    """Return the axes of every operand and of the result, a letter each.

    >>> _parsed("b...i,ij->b...j", [4, 2])
    (['b01i', 'ij'], 'b01j')
    """
    left, arrow, result = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    if len(terms) != len(ranks):
        raise ValueError(f"einsum('{equation}') of {len(ranks)} operands")
    most = max((rank - len(term) + 3 for term, rank in zip(terms, ranks, strict=True) if "..." in term), default=0)
    dots = "0123456789"[:most]
    for number, (term, rank) in enumerate(zip(terms, ranks, strict=True)):
        own = rank - len(term) + 3
        terms[number] = term.replace("...", dots[most - own :] if own else "")
        if len(terms[number]) != rank:
            raise ValueError(f"einsum('{equation}') of an operand of {rank} axes")
    if not arrow:
        names = "".join(terms)
        result = dots + "".join(sorted(name for name in set(names) if names.count(name) == 1 and name not in dots))
    return terms, result.replace("...", dots)


def _contracted(
    builder: Builder, operands: Sequence[Operand], terms: Sequence[str], wanted: str
) -> tuple[Value, list[str]]:
    """Return the sum of products, the batch in front, and the names of its axes."""
    given = [
        _summed(builder, one, term, [*wanted, *(terms[1 - place] if len(terms) > 1 else "")])
        for place, (one, term) in enumerate(zip(operands, terms, strict=True))
    ]
    if len(given) == 1:
        found, names = given[0]
        assert isinstance(found, Value)  # noqa: S101 - translators are called with at least one
        return found, list(names)
    (one, left), (other, right) = given
    if not isinstance(one, Value):
        one, left, other, right = other, right, one, left
    assert isinstance(one, Value)  # noqa: S101 - likewise
    inner = [name for name in left if name in right and name not in wanted]
    if not inner:
        return _product(builder, one, left, other, right)
    both = [name for name in left if name in right and name in wanted]
    rows, columns = ([name for name in names if name not in both and name not in inner] for names in (left, right))
    sizes = {**dict(zip(left, _sizes(one), strict=True)), **dict(zip(right, _sizes(other), strict=True))}
    axes = [*both, *rows, *columns]
    if isinstance(other, Value):
        outer = [sizes[name] for name in both]
        first = _grouped(
            builder, one, left, [*both, *rows, *inner], [*outer, _count(sizes, rows), _count(sizes, inner)]
        )
        second = _grouped(
            builder, other, right, [*both, *inner, *columns], [*outer, _count(sizes, inner), _count(sizes, columns)]
        )
        found = matmul(builder, first, second)
    else:
        found = _with_matrices(builder, one, left, other, right, (both, rows, inner, columns), sizes)
    return reshape(builder, found, 1, *(sizes[name] for name in axes)), axes


def _with_matrices(
    builder: Builder,
    one: Value,
    left: str,
    other: Tensor,
    right: str,
    groups: tuple[list[str], list[str], list[str], list[str]],
    sizes: dict[str, int],
) -> Value:
    """Return products with constant matrices, one for each position of the axes that both have, side by side."""
    both, rows, inner, columns = groups
    count, width = _count(sizes, both), _count(sizes, inner)
    if count > MOST_UNROLLED:
        raise ValueError(f"einsum of {count} matrices that are constant; {MOST_UNROLLED} are unrolled at most")
    matrices = other.permute([right.index(name) for name in (*both, *columns, *inner)]).reshape(count, -1, width)
    value = _grouped(builder, one, left, [*both, *rows, *inner], [count, _count(sizes, rows), width])
    if count == 1:
        return linear(builder, value, matrices[0].contiguous())
    parts = [
        linear(builder, along(builder, value, 1, place), matrix.contiguous()) for place, matrix in enumerate(matrices)
    ]
    return stacked(builder, parts, 1)


def _summed(builder: Builder, one: Operand, term: str, needed: Sequence[str]) -> tuple[Operand, str]:
    """Return an operand summed over what nothing else needs, and the names of its axes."""
    gone = [place for place, name in enumerate(term) if name not in needed]
    if not gone:
        return one, term
    left = "".join(name for name in term if name in needed)
    if isinstance(one, Value):
        return total(builder, one, [place + 1 for place in gone]), left
    return one.sum(gone), left


def _product(builder: Builder, one: Value, left: str, other: Operand, right: str) -> tuple[Value, list[str]]:
    """Return the product, repeated along what only one of the two has, and the names of its axes."""
    axes = [*left, *(name for name in right if name not in left)]
    first = reshape(builder, one, 1, *_sizes(one), *[1] * (len(axes) - len(left)))
    order = [right.index(name) for name in axes if name in right]
    sizes = [_sizes(other)[right.index(name)] if name in right else 1 for name in axes]
    if isinstance(other, Value):
        second: Operand = reshape(builder, permute(builder, other, [0, *(place + 1 for place in order)]), 1, *sizes)
    else:
        second = other.permute(order).reshape(sizes)
    return multiply(builder, first, second), axes


def _grouped(builder: Builder, value: Value, term: str, order: Sequence[str], shape: Sequence[int]) -> Value:
    """Return a value with its axes in another order and joined to those of a shape."""
    return reshape(builder, permute(builder, value, [0, *(term.index(name) + 1 for name in order)]), 1, *shape)


def _sizes(one: Operand) -> tuple[int, ...]:
    return one.shape if isinstance(one, Value) else tuple(one.shape)


def _count(sizes: dict[str, int], names: Sequence[str]) -> int:
    return prod(sizes[name] for name in names)


TRANSLATORS = Translators(functions={torch.einsum: einsum, torch.tensordot: tensordot}, modules={})
