"""Image processors: what turns pictures into the numbers that a backbone reads, without torchvision."""

from __future__ import annotations

import transformers
from transformers import AutoImageProcessor, BaseImageProcessor

from tunesmith.models import refuse


def load_processor(source: str) -> BaseImageProcessor:
    """The image processor of a folder or hub name. None there raises ModelError."""
    quiet = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    try:
        found = AutoImageProcessor.from_pretrained(source, trust_remote_code=False, backend="pil")
    except Exception as error:
        raise refuse.tokenizer_error(source, error) from error
    finally:
        transformers.logging.set_verbosity(quiet)
    assert isinstance(found, BaseImageProcessor)
    return found
