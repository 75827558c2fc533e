"""Image processors: what turns pictures into the numbers that a backbone reads, without torchvision."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
import transformers

from tunesmith.core.errors import ModelError
from tunesmith.models import refuse

if TYPE_CHECKING:
    # transformers loads what processes images when it is first asked for it: most runs never do.
    from transformers import BaseImageProcessor, PreTrainedConfig, PreTrainedModel


def load_processor(source: str) -> BaseImageProcessor:
    """The image processor of a folder or hub name, computed by Pillow and numpy whatever else is installed, so that
    the same picture gives the same numbers everywhere. None there raises ModelError.
    """
    quiet = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    try:
        found = transformers.AutoImageProcessor.from_pretrained(source, trust_remote_code=False, backend="pil")
    except Exception as error:
        raise refuse.processor_error(source, error) from error
    finally:
        transformers.logging.set_verbosity(quiet)
    assert isinstance(found, transformers.BaseImageProcessor)
    return found


def new_processor(size: int, channels: int) -> BaseImageProcessor:
    """A processor for a model of its own: images become squares of `size` pixels with values from -1 to 1, in grey for
    one channel, in red, green and blue for three.
    """
    middle = [0.5] * channels
    return transformers.ViTImageProcessorPil(size={"height": size, "width": size}, image_mean=middle, image_std=middle)


def processor_for(config: PreTrainedConfig) -> BaseImageProcessor:
    """A processor for images of the size and the number of channels that a model's configuration says."""
    return new_processor(int(config.image_size), int(config.num_channels))


def check_fit(model: PreTrainedModel, processor: BaseImageProcessor, name: str) -> None:
    """Let the model see one grey picture; a processor whose pictures it can't take raises ModelError."""
    means = getattr(processor, "image_mean", None)
    channels = len(means) if isinstance(means, list | tuple) else 3
    picture = np.full((64, 64, channels), 128, dtype=np.uint8)
    training = model.training
    try:
        given = processor(images=[picture], input_data_format="channels_last", return_tensors="pt")
        with torch.inference_mode():
            model.eval()(**given.to(model.device))
    except Exception as error:
        what = str(error).strip().split("\n")[0].rstrip(".")
        raise ModelError(
            f"The model {name} (in {str(model.dtype).removeprefix('torch.')}) can't take the pictures that its image "
            f"processor gives: {what}.",
            hint="Check preprocessor_config.json, and leave model.dtype out.",
        ) from error
    finally:
        model.train(training)
