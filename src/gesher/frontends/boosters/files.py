"""Files of boosted trees, told apart by what is in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gesher.base.errors import FormatError, GesherError

from . import catboost_model, lightgbm_model, xgboost_model


def read_booster(path: Path) -> Any:
    """The model in a `.json`, `.ubj` or `.txt` file, read without the library that wrote it.

    Raises:
        FormatError: it is no model of a library that is known.
        UnsupportedError: it is one with parts that cannot be read.
    """
    if not path.is_file():
        raise FormatError("there is no such file", place=(str(path),))
    data = path.read_bytes()
    try:
        if data[:5].strip() == b"tree":
            return lightgbm_model.parse(_text(data))
        document = xgboost_model.parse(data)
        if isinstance(document, dict) and "learner" in document:
            return xgboost_model.from_document(document)
        if isinstance(document, dict) and "model_info" in document and "features_info" in document:
            return catboost_model.from_document(document)
        raise FormatError("it is no model of a library that gesher knows",
                          advice="XGBoost's .json and .ubj, LightGBM's .txt and CatBoost's .json are")
    except GesherError as e:
        raise e.within(str(path)) from None


def _text(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as e:
        raise FormatError("it is no text in UTF-8", offset=e.start) from None
