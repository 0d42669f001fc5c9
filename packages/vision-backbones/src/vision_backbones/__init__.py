"""Pretrained CLIP, ViT, Swin, ConvNeXt, BERT and LLaMA behind one call."""

from vision_backbones.backbone import Backbone
from vision_backbones.catalog import BackboneSpec, list_backbones
from vision_backbones.load import load_backbone

__all__ = ["Backbone", "BackboneSpec", "list_backbones", "load_backbone"]
