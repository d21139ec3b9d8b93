"""Checkpoints of a training."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from spinn_stream.errors import ConfigError, DataError
from spinn_stream.train.backbone.network import EarlyExitNetwork

STAGES, HEADS = "stages.", "heads."
"""Prefixes of the names of a network's tensors."""


@dataclass(frozen=True)
class Start:
    """The start of a training.

    config: of the training that made the weights. untrained: exits whose heads it did not have.
    """

    config: str
    untrained: tuple[str, ...]


def _kind(key: str, tensors: dict[str, Any]) -> str:
    return f"{key.rpartition('.')[2]} of shape {tuple(tensors[key].shape)}"


class Checkpoint:
    """The state of a training on disk. The last one stays whole if writing the next one fails.

    Args:
        config: all that decides the result of the training; a checkpoint with another one is refused.
    """

    def __init__(self, path: Path, config: str) -> None:
        self._path = path
        self._config = config

    def load(self, network: nn.Module, optimizer: torch.optim.Optimizer) -> int:
        """Steps done; 0: there is no checkpoint."""
        if not self._path.exists():
            return 0
        try:
            saved = torch.load(self._path, weights_only=True, map_location="cpu")
            if saved["config"] != self._config:
                raise ConfigError(
                    f"{self._path} was made with {saved['config']}, asked for {self._config}; "
                    "give the same options to continue, or another --work folder to begin anew"
                )
            network.load_state_dict(saved["network"])
            optimizer.load_state_dict(saved["optimizer"])
            return int(saved["step"])
        except ConfigError:
            raise
        except Exception as error:  # torch, pickle and zip files raise many kinds
            raise DataError(
                f"{self._path} is not a checkpoint of this network ({type(error).__name__}: {error}); "
                "give the same options to continue, or another --work folder to begin anew"
            ) from error

    def read_weights(self, network: EarlyExitNetwork) -> Start:
        """Read only the weights, to begin another training from them.

        All weights of the backbone must be there. A head's weights are read if the checkpoint has an exit of the same
        design at the same cut point; other heads stay as they are.

        Raises:
            DataError: no checkpoint, or one of another backbone.
        """
        try:
            saved = torch.load(self._path, weights_only=True, map_location="cpu")
            theirs, config = dict(saved["network"]), str(saved["config"])
            exits = [str(name) for name in saved.get("exits", [])]  # not there: written before they were kept
        except Exception as error:  # torch, pickle and zip files raise many kinds
            raise DataError(
                f"{self._path} is not a checkpoint of a training ({type(error).__name__}: {error})"
            ) from error
        wanted = network.state_dict()
        backbone, found = ([key for key in tensors if key.startswith(STAGES)] for tensors in (wanted, theirs))
        differing = [
            f"{_kind(key, theirs)}, expected {_kind(ours, wanted)}"
            for ours, key in zip(backbone, found, strict=False)
            if _kind(ours, wanted) != _kind(key, theirs)
        ]
        if differing or len(backbone) != len(found):
            reason = differing[0] if differing else f"{len(found)} tensors, expected {len(backbone)}"
            raise DataError(
                f"{self._path} has another backbone: {reason}; it must come from the same --backbone, --image-size "
                "and number of classes"
            )
        # Which layers make a stage may depend on where exits are: the tensors are the same ones in the same order.
        taken = dict(zip(backbone, (theirs[key] for key in found), strict=True))
        untrained = []
        for i, name in enumerate(network.exit_names):
            before = exits.index(name) if name in exits else i if not exits else None
            head = {
                key: theirs.get(f"{HEADS}{before}.{key.split('.', 2)[2]}")
                for key in wanted
                if key.startswith(f"{HEADS}{i}.")
            }
            if all(value is not None and value.shape == wanted[key].shape for key, value in head.items()):
                taken |= head
            else:
                untrained.append(name)
        network.load_state_dict(taken, strict=False)
        network.is_classifier_new = False
        return Start(config, tuple(untrained))

    def save(self, network: EarlyExitNetwork, optimizer: torch.optim.Optimizer, step: int) -> None:
        partial = self._path.with_suffix(".partial")
        state = {
            "network": network.state_dict(), "optimizer": optimizer.state_dict(), "step": step, "config": self._config,
            "exits": network.exit_names,
        }  # fmt: skip
        try:
            with partial.open("wb") as file:
                torch.save(state, file)
            partial.replace(self._path)
        except (OSError, RuntimeError) as error:  # torch wraps a full disk in a RuntimeError
            partial.unlink(missing_ok=True)
            kept = f"the checkpoint before it is whole: {self._path}" if self._path.exists() else "there is none yet"
            raise DataError(f"cannot write the checkpoint of step {step}: {error}; {kept}") from error
