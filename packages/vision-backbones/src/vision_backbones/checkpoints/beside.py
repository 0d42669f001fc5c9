"""What the config.json beside a file of timm or open_clip says about preparing images."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)


def timm_facts(path: Path) -> dict[str, Any]:
    """Normalisation and licence from timm's config.json.

    Args:
        path: The weights file.

    Returns:
        Fields of a catalog's record; none where there is no such file.
    """
    settings = _read(path.parent / "config.json").get("pretrained_cfg", {})
    facts = {field: tuple(settings[field]) for field in ("mean", "std") if field in settings}
    if "license" in settings:
        facts["licence"] = settings["license"]
    return facts


def open_clip_facts(path: Path, options: dict[str, Any]) -> dict[str, Any]:
    """Activation and normalisation from open_clip's open_clip_config.json.

    The weights alone do not say whether they were trained with GELU or with OpenAI's quick GELU.

    Args:
        path: The weights file.
        options: What the catalog's record changes in the architecture already.

    Returns:
        Fields of a catalog's record; none where there is no such file, and then this is logged.
    """
    settings = _read(path.parent / "open_clip_config.json")
    if not settings:
        log.warning(
            "%s is taken for OpenAI's CLIP with quick GELU, as there is no open_clip_config.json "
            "beside it: put it there if the weights were trained otherwise",
            path,
        )
        return {}
    quick = bool(settings.get("model_cfg", {}).get("quick_gelu", False))
    prepared = settings.get("preprocess_cfg", {})
    facts = {field: tuple(prepared[field]) for field in ("mean", "std") if field in prepared}
    return facts | {"options": options | {"quick_gelu": quick}}


def _read(path: Path) -> dict[str, Any]:
    """A JSON object, empty where there is none."""
    if not path.is_file():
        return {}
    content = json.loads(path.read_text(encoding="utf-8"))
    return content if isinstance(content, dict) else {}
