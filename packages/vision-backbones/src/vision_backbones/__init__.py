"""Pretrained CLIP, ViT and (as the text control) BERT behind one call."""
