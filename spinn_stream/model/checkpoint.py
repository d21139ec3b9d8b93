"""Checkpoints of a training."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from ..errors import ConfigError, DataError


class Checkpoint:
    """The state of a training on disk: the last one stays whole whatever happens to the next.

    Args:
        config: what decides the result of the training; a checkpoint of another one is refused.
    """

    def __init__(self, path: Path, config: str) -> None:
        self._path = path
        self._config = config

    def load(self, network: nn.Module, optimizer: torch.optim.Optimizer) -> int:
        """Steps done, 0 where there is no checkpoint."""
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

    def read_weights(self, network: nn.Module) -> str:
        """Take the weights alone, to begin another training from them.

        Returns:
            The configuration that the checkpoint was made with.

        Raises:
            DataError: no checkpoint of this network.
        """
        try:
            saved = torch.load(self._path, weights_only=True, map_location="cpu")
            network.load_state_dict(saved["network"])
            return str(saved["config"])
        except Exception as error:  # torch, pickle and zip files raise many kinds
            raise DataError(
                f"{self._path} is not a checkpoint of this network ({type(error).__name__}: {error}); "
                "it must come from the same --backbone, --image-size and exits"
            ) from error

    def save(self, network: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> None:
        partial = self._path.with_suffix(".partial")
        state = {
            "network": network.state_dict(), "optimizer": optimizer.state_dict(), "step": step, "config": self._config,
        }  # fmt: skip
        try:
            with partial.open("wb") as file:
                torch.save(state, file)
            partial.replace(self._path)
        except (OSError, RuntimeError) as error:  # torch wraps a full disk in a RuntimeError
            partial.unlink(missing_ok=True)
            kept = f"the checkpoint before it is whole: {self._path}" if self._path.exists() else "there is none yet"
            raise DataError(f"cannot write the checkpoint of step {step}: {error}; {kept}") from error
