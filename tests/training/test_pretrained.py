"""Weights from a user's file: taken by name, or refused in one line that says what is wrong."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from safetensors.torch import save_file, save_model
from torch import nn

from qanas.core.errors import InputError
from qanas.networks.lstm import LSTMNetwork
from qanas.training.pretrained import load_weights

if TYPE_CHECKING:
    from collections.abc import Callable


def network(units: tuple[int, ...] = (3, 2)) -> LSTMNetwork:
    return LSTMNetwork(4, units)


@pytest.mark.parametrize("ending", ["safetensors", "pt", "pth"])
def test_weights_are_copied_by_name(tmp_path: Path, ending: str) -> None:
    source, target = network(), network()
    path = tmp_path / f"weights.{ending}"
    if ending == "safetensors":
        save_file(source.state_dict(), path)
    else:
        torch.save(source.state_dict(), path)
    load_weights(target, path)
    for name, tensor in source.state_dict().items():
        torch.testing.assert_close(target.state_dict()[name], tensor, rtol=0, atol=0)


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.module.", "model."])
@pytest.mark.parametrize("holder", ["state_dict", "model_state_dict", "model"])
def test_a_checkpoint_holds_the_weights_under_wrapped_names(tmp_path: Path, holder: str, prefix: str) -> None:
    source, target = network(), network()
    state = {f"{prefix}{name}": tensor for name, tensor in source.state_dict().items()}
    torch.save({"epoch": 3, holder: state, "optimizer": {"lr": 0.1}}, tmp_path / "last.ckpt")
    load_weights(target, tmp_path / "last.ckpt")
    for name, tensor in source.state_dict().items():
        torch.testing.assert_close(target.state_dict()[name], tensor, rtol=0, atol=0)


def test_what_layers_share_is_kept_by_one_name(tmp_path: Path) -> None:
    def tied() -> nn.Sequential:
        layer = nn.Linear(3, 3)
        return nn.Sequential(layer, nn.ReLU(), layer, nn.Linear(3, 1))

    source, target = tied(), tied()
    save_model(source, str(tmp_path / "weights.safetensors"))
    load_weights(target, tmp_path / "weights.safetensors")
    for name, tensor in source.state_dict().items():
        torch.testing.assert_close(target.state_dict()[name], tensor, rtol=0, atol=0)


def test_what_does_not_fit_is_listed(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    state = network((3, 5)).state_dict()
    del state["head.bias"]
    save_file({**state, "extra": torch.zeros(1)}, path)
    with pytest.raises(InputError) as caught:
        load_weights(network(), path)
    text = str(caught.value)
    assert text.count("\n") == 0
    for part in (str(path), "it lacks head.bias", "has no extra", "lstm.1.weight_hh (20, 5) instead of (8, 2)"):
        assert part in text


def test_many_misfits_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file({}, path)
    with pytest.raises(InputError, match=r"lacks lstm\.0\.weight_ih, .* and 3 more"):
        load_weights(network(), path)


@pytest.mark.parametrize("content", [b"", b"not weights at all", b"\x80\x02."])
@pytest.mark.parametrize("ending", ["safetensors", "pt"])
def test_another_format_is_one_line(tmp_path: Path, ending: str, content: bytes) -> None:
    path = tmp_path / f"weights.{ending}"
    path.write_bytes(content)
    with pytest.raises(InputError, match="can't be read as weights") as caught:
        load_weights(network(), path)
    assert "\n" not in str(caught.value)


def test_a_pickled_module_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    torch.save(nn.Linear(2, 2), path)
    told = r"weights\.pt: holds torch\.nn\.modules\.linear\.Linear beside tensors .* save the state dict alone"
    with pytest.raises(InputError, match=told):
        load_weights(network(), path)


@pytest.mark.filterwarnings("ignore:.torch.jit")
def test_a_program_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    torch.jit.save(torch.jit.script(nn.Linear(2, 2)), path)
    with pytest.raises(InputError, match=r"holds TorchScript .* save the state dict alone"):
        load_weights(nn.Linear(2, 2), path)


def test_what_trainers_keep_beside_weights_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "best.pt"
    kept = {"best": np.float32(0.9), "epoch": np.int64(3), "args": argparse.Namespace(lr=0.1, out=Path("runs"))}
    source, target = nn.Linear(2, 2), nn.Linear(2, 2)
    torch.save({"state_dict": source.state_dict(), **kept}, path)
    load_weights(target, path)
    assert torch.equal(target.weight, source.weight)


def parts(prefix: str, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {f"{prefix}{name}": tensor for name, tensor in state.items()}


class Compiled(nn.Module):
    """Names its weights as `torch.compile` does."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self._orig_mod = network


def test_a_network_is_found_in_what_it_was_trained_in(tmp_path: Path) -> None:
    source, target = tied(), tied()
    others = {
        "criterion.weight": torch.ones(3),
        "model.total_ops": torch.ones(1),
        "model.0.total_params": torch.ones(1),
    }
    for prefix in ("model._orig_mod.", "student.net.", ""):
        state = parts(prefix, source.state_dict())
        torch.save(state | (others if prefix else {"0.total_ops": torch.ones(1)}), tmp_path / "weights.pt")
        load_weights(target, tmp_path / "weights.pt")
        for name, tensor in source.state_dict().items():
            assert torch.equal(target.state_dict()[name], tensor)
    inner = nn.Sequential(Compiled(source), nn.Linear(4, 1))
    other = nn.Sequential(tied(), nn.Linear(4, 1))
    torch.save(inner.state_dict(), tmp_path / "weights.pt")
    load_weights(other, tmp_path / "weights.pt")
    torch.save(other.state_dict(), tmp_path / "weights.pt")
    load_weights(inner, tmp_path / "weights.pt")


def test_which_of_two_networks_is_meant_is_asked(tmp_path: Path) -> None:
    state = network().state_dict()
    torch.save(parts("student.", state) | parts("teacher.", state), tmp_path / "weights.pt")
    with pytest.raises(InputError, match=r"several networks that fit, under student\. and teacher\.; save the state"):
        load_weights(network(), tmp_path / "weights.pt")
    wide = network((5, 2)).state_dict()
    torch.save(parts("student.", state) | parts("teacher.", wide), tmp_path / "weights.pt")
    load_weights(network(), tmp_path / "weights.pt")
    load_weights(network((5, 2)), tmp_path / "weights.pt")


def test_a_part_of_another_network_is_not_taken_for_it(tmp_path: Path) -> None:
    whole = nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    torch.save(whole.state_dict(), tmp_path / "weights.pt")
    with pytest.raises(InputError, match="not the weights of this Linear"):
        load_weights(nn.Linear(4, 2), tmp_path / "weights.pt")
    torch.save(nn.Sequential(whole, nn.BatchNorm1d(2)).state_dict(), tmp_path / "weights.pt")
    with pytest.raises(
        InputError, match=r"not the weights of this BatchNorm1d: it lacks weight, .* has no 0\.0\.weight"
    ):
        load_weights(nn.BatchNorm1d(2), tmp_path / "weights.pt")


def test_what_is_too_much_is_told_with_its_mend(tmp_path: Path) -> None:
    torch.save(network().state_dict() | {"criterion.weight": torch.ones(2)}, tmp_path / "weights.pt")
    with pytest.raises(InputError, match=r"has no criterion\.weight; take out of the file what is not the network's"):
        load_weights(network(), tmp_path / "weights.pt")


def test_no_state_dict(tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    torch.save(torch.zeros(3), path)
    with pytest.raises(InputError, match="holds Tensor, not a state dict"):
        load_weights(network(), path)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        load_weights(network(), tmp_path / "none.safetensors")


def tied() -> nn.Module:
    first, second = nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)
    second.weight = first.weight
    return nn.Sequential(first, nn.BatchNorm1d(4), second)


def lazy() -> nn.Module:
    return nn.Sequential(nn.LazyLinear(4, bias=False), nn.BatchNorm1d(4), nn.LazyLinear(4, bias=False))


@pytest.mark.parametrize(
    ("build", "left_out"),
    [(tied, ["1.num_batches_tracked"]), (tied, ["2.weight"]), (tied, ["0.weight"]), (lazy, ["1.num_batches_tracked"])],
)
def test_what_follows_from_the_rest_may_be_left_out(
    tmp_path: Path, build: Callable[[], nn.Module], left_out: list[str]
) -> None:
    state = tied().state_dict()
    torch.save({name: tensor for name, tensor in state.items() if name not in left_out}, tmp_path / "weights.pt")
    load_weights(target := build(), tmp_path / "weights.pt")
    for name, tensor in state.items():
        assert torch.equal(target.state_dict()[name], tensor)
