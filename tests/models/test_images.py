"""Image processors: loaded, made, and tried on the model they belong to."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForImageClassification, ViTConfig

from tunesmith.core.errors import ModelError
from tunesmith.models import builtin, images, load
from tunesmith.models.settings import ModelSettings

AUTO = ("AutoModelForImageClassification",)


@pytest.mark.parametrize("name", [*builtin.tiny_vision(), *builtin.tiny_batch_norms()])
def test_the_tiny_backbones_see_images(name: str) -> None:
    backbone = load.load(ModelSettings(name=f"builtin:{name}"), AUTO, {"num_labels": 5}, 0, "images")
    pixels = backbone.tokenizer(images=[np.zeros((40, 30, 3), dtype=np.uint8)], return_tensors="pt")["pixel_values"]
    assert pixels.shape == (1, 3, 32, 32) and backbone.model(pixel_values=pixels).logits.shape == (1, 5)
    again = load.load(ModelSettings(name=f"builtin:{name}"), AUTO, {"num_labels": 5}, 0, "images")
    assert again.identity == backbone.identity
    assert name in builtin.names() and name not in builtin.tiny_configs()


def test_a_backbone_of_texts_sees_no_images_and_the_other_way_round() -> None:
    with pytest.raises(ModelError, match=r"tiny-bert is a bert model, for which transformers has no .*ImageClass"):
        load.load(ModelSettings(name="builtin:tiny-bert"), AUTO, {}, 0, "images")
    with pytest.raises(ModelError, match=r"tiny-vit is a vit model, for which transformers has no .*Sequence"):
        load.load(ModelSettings(name="builtin:tiny-vit"), ("AutoModelForSequenceClassification",), {}, 0)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_new_processor_comes_back_from_its_file(channels: int, tmp_path: Path) -> None:
    made = images.new_processor(12, channels)
    made.save_pretrained(tmp_path)
    loaded = images.load_processor(str(tmp_path))
    picture = np.random.default_rng(0).integers(0, 256, (20, 30, channels), dtype=np.uint8)
    first, second = (
        one(images=[picture], input_data_format="channels_last", return_tensors="pt")["pixel_values"]
        for one in (made, loaded)
    )
    assert first.shape == (1, channels, 12, 12) and torch.equal(first, second)
    assert first.min() >= -1 and first.max() <= 1


def test_a_folder_without_a_processor_or_with_a_damaged_one_is_refused(tmp_path: Path) -> None:
    config = builtin.tiny_vision()["tiny-vit"]
    AutoModelForImageClassification.from_config(config).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"The image processor of .* can't be loaded"):
        load.load(ModelSettings(name=str(tmp_path)), AUTO, {}, 0, "images")
    (tmp_path / "preprocessor_config.json").write_text("{")
    with pytest.raises(ModelError, match=r"preprocessor_config\.json is damaged"):
        images.load_processor(str(tmp_path))


@pytest.mark.parametrize(("size", "channels", "told"), [(64, 3, "image size"), (32, 1, "channel")])
def test_a_processor_of_another_model_is_refused(size: int, channels: int, told: str, tmp_path: Path) -> None:
    small = ViTConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=32)
    AutoModelForImageClassification.from_config(small).save_pretrained(tmp_path)
    images.new_processor(size, channels).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=rf"(?i)can't take the pictures that its image processor gives: .*{told}"):
        load.load(ModelSettings(name=str(tmp_path)), AUTO, {}, 0, "images")


def test_a_model_in_a_type_that_takes_no_pictures_is_refused() -> None:
    vit = load.load(ModelSettings(name="builtin:tiny-vit", dtype="bfloat16"), AUTO, {}, 0, "images")
    assert vit.model.dtype == torch.bfloat16
    with pytest.raises(ModelError, match=r"tiny-convnext \(in bfloat16\) can't take the pictures"):
        load.load(ModelSettings(name="builtin:tiny-convnext", dtype="bfloat16"), AUTO, {}, 0, "images")


def test_the_check_leaves_the_model_as_it_was() -> None:
    backbone = load.load(ModelSettings(name="builtin:tiny-resnet"), AUTO, {}, 0, "images")
    before = {name: tensor.clone() for name, tensor in backbone.model.state_dict().items()}
    backbone.model.train()
    images.check_fit(backbone.model, backbone.tokenizer, "it")
    assert backbone.model.training
    assert all(torch.equal(before[name], tensor) for name, tensor in backbone.model.state_dict().items())
