"""What schemas do not say of attributes: the words that they may be, and which lists must match in length.

A table of facts from the operators' texts. A word is followed by the version of the operator that brought it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_ML = "ai.onnx.ml"


def _words(text: str, **since: int) -> dict[Any, int]:
    return {w: since.get(w.lower(), 1) for w in text.split()}


_PADDED = _words("NOTSET SAME_UPPER SAME_LOWER VALID")
_DIRECTIONS = _words("forward reverse bidirectional")
_POST = _words("NONE SOFTMAX LOGISTIC SOFTMAX_ZERO PROBIT")
_REDUCED = _words("none add mul max min", max=18, min=18)
_AGGREGATED = _words("SUM AVERAGE MIN MAX")
_BRANCHES = _words("BRANCH_LEQ BRANCH_LT BRANCH_GTE BRANCH_GT BRANCH_EQ BRANCH_NEQ LEAF")
_KERNELS = _words("LINEAR POLY RBF SIGMOID")
_ROUNDED = _words("up down nearest")
_ACTIVATIONS = _words("Relu Tanh Sigmoid Affine LeakyRelu ThresholdedRelu ScaledTanh HardSigmoid Elu Softsign Softplus")

# ("*", "*", name) holds for every operator of ONNX that has an attribute of the name.
CHOICES: dict[tuple[str, str, str], Mapping[Any, int]] = {
    ("*", "*", "auto_pad"):                               _PADDED,
    ("", "LSTM", "direction"):                            _DIRECTIONS,
    ("", "GRU", "direction"):                             _DIRECTIONS,
    ("", "RNN", "direction"):                             _DIRECTIONS,
    ("", "BitShift", "direction"):                        _words("LEFT RIGHT"),
    ("", "DepthToSpace", "mode"):                         _words("DCR CRD"),
    ("", "Pad", "mode"):                                  _words("constant reflect edge wrap", wrap=19),
    ("", "Resize", "mode"):                               _words("nearest linear cubic", cubic=11),
    ("", "Upsample", "mode"):                             _words("nearest linear"),
    ("", "Resize", "nearest_mode"):     _words("round_prefer_floor round_prefer_ceil floor ceil"),
    ("", "Resize", "coordinate_transformation_mode"):     {
        **_words("half_pixel pytorch_half_pixel align_corners asymmetric tf_crop_and_resize"),
        "tf_half_pixel_for_nn": 11, "half_pixel_symmetric": 19},
    ("", "Resize", "keep_aspect_ratio_policy"):           _words("stretch not_larger not_smaller"),
    ("", "GridSample", "mode"):                           _words("bilinear nearest bicubic linear cubic"),
    ("", "GridSample", "padding_mode"):                   _words("zeros border reflection"),
    ("", "RoiAlign", "mode"):                             _words("avg max"),
    ("", "RoiAlign", "coordinate_transformation_mode"):   _words("half_pixel output_half_pixel"),
    ("", "Gelu", "approximate"):                          _words("none tanh"),
    ("", "ScatterElements", "reduction"):                 _REDUCED,
    ("", "ScatterND", "reduction"):                       _REDUCED,
    ("", "TensorScatter", "mode"):                        _words("linear circular"),
    ("", "TfIdfVectorizer", "mode"):                      _words("TF IDF TFIDF"),
    ("", "NegativeLogLikelihoodLoss", "reduction"):       _words("none mean sum"),
    ("", "SoftmaxCrossEntropyLoss", "reduction"):         _words("none mean sum"),
    ("", "StringNormalizer", "case_change_action"):       _words("NONE LOWER UPPER"),
    ("", "Cast", "round_mode"):                           _ROUNDED,
    ("", "CastLike", "round_mode"):                       _ROUNDED,
    ("", "SpaceToDepth", "mode"):                         _words("DCR CRD"),
    ("", "ImageDecoder", "pixel_format"):                 _words("RGB BGR Grayscale"),
    ("", "CausalConvWithState", "activation"):            _words("none silu swish"),
    ("", "LinearAttention", "update_rule"):               _words("linear gated delta gated_delta"),
    ("", "LSTM", "activations"):                          _ACTIVATIONS,
    ("", "GRU", "activations"):                           _ACTIVATIONS,
    ("", "RNN", "activations"):                           _ACTIVATIONS,
    (_ML, "CastMap", "cast_to"):                          _words("TO_FLOAT TO_STRING TO_INT64"),
    (_ML, "CastMap", "map_form"):                         _words("DENSE SPARSE"),
    (_ML, "Normalizer", "norm"):                          _words("MAX L1 L2"),
    (_ML, "LinearClassifier", "post_transform"):          _POST,
    (_ML, "LinearRegressor", "post_transform"):           _POST,
    (_ML, "SVMClassifier", "post_transform"):             _POST,
    (_ML, "SVMRegressor", "post_transform"):              _POST,
    (_ML, "SVMClassifier", "kernel_type"):                _KERNELS,
    (_ML, "SVMRegressor", "kernel_type"):                 _KERNELS,
    (_ML, "TreeEnsembleClassifier", "post_transform"):    _POST,
    (_ML, "TreeEnsembleRegressor", "post_transform"):     _POST,
    (_ML, "TreeEnsembleClassifier", "nodes_modes"):       _BRANCHES,
    (_ML, "TreeEnsembleRegressor", "nodes_modes"):        _BRANCHES,
    (_ML, "TreeEnsembleRegressor", "aggregate_function"): _AGGREGATED,
    (_ML, "TreeEnsemble", "aggregate_function"):          {0: 1, 1: 1, 2: 1, 3: 1},
    (_ML, "TreeEnsemble", "post_transform"):              {0: 1, 1: 1, 2: 1, 3: 1, 4: 1},
}

# The text writes these words in one case; runtimes and exporters do not care.
ANY_CASE = frozenset(("activations",))

FLAGS = frozenset((
    "keepdims", "ceil_mode", "count_include_pad", "exclusive", "reverse", "allowzero", "select_last_index", "largest",
    "sorted", "align_corners", "keep_as_uint8", "linear_before_reset", "new_axis", "batch_first", "sample_weight",
    "center_point_box", "antialias", "upper", "onesided", "inverse", "saturate", "training_mode",
))

# Lists with one entry for each entry of the first.
_TREES = ("nodes_treeids", "nodes_nodeids", "nodes_featureids", "nodes_modes", "nodes_values", "nodes_truenodeids",
          "nodes_falsenodeids", "nodes_hitrates", "nodes_missing_value_tracks_true")
_ALIKE: dict[tuple[str, str], tuple[tuple[str, ...], ...]] = {
    ("", "TfIdfVectorizer"): (("ngram_indexes", "weights"),),
    (_ML, "CategoryMapper"): (("cats_strings", "cats_int64s"),),
    (_ML, "TreeEnsemble"): (("nodes_featureids", "nodes_truenodeids", "nodes_trueleafs", "nodes_falsenodeids",
                             "nodes_falseleafs", "nodes_missing_value_tracks_true"),),
    (_ML, "TreeEnsembleClassifier"): (_TREES, ("class_treeids", "class_nodeids", "class_ids", "class_weights")),
    (_ML, "TreeEnsembleRegressor"): (_TREES, ("target_treeids", "target_nodeids", "target_ids", "target_weights")),
    (_ML, "LabelEncoder"): (("keys_strings", "values_strings"), ("keys_int64s", "values_int64s"),
                            ("keys_floats", "values_floats"), ("keys_strings", "values_int64s"),
                            ("keys_int64s", "values_strings"), ("keys_strings", "values_floats"),
                            ("keys_int64s", "values_floats"), ("keys_floats", "values_strings"),
                            ("keys_floats", "values_int64s")),
}
# Activations that each direction of a recurrent operator takes.
_RECURRENT = {"LSTM": 3, "GRU": 2, "RNN": 1}
# Entries for each spatial axis: pads has two.
_SPATIAL = (("kernel_shape", 1), ("strides", 1), ("dilations", 1), ("pads", 2), ("output_padding", 1))
_WINDOWED = frozenset(("Conv", "ConvTranspose", "ConvInteger", "QLinearConv", "MaxPool", "AveragePool", "LpPool",
                       "MaxUnpool", "DeformConv"))


def lengths(domain: str, operator: str, written: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with the lengths of the lists among the attributes of one node."""
    if not domain and operator in _WINDOWED:
        yield from _spatial(written)
    elif operator == "Transpose" and "perm" in written:
        perm = written["perm"]
        if sorted(perm) != list(range(len(perm))):
            yield f"perm {list(perm)} is no permutation of {len(perm)} axes"
    elif not domain and "axes" in written and isinstance(written["axes"], tuple):
        axes = written["axes"]
        if len(set(axes)) != len(axes):
            yield f"axes {list(axes)} names an axis twice"
    elif not domain and operator in _RECURRENT:
        yield from _recurrent(operator, written)
    elif domain == _ML and operator in ("LinearRegressor", "LinearClassifier"):
        yield from _linear(written)
    for names in _ALIKE.get((domain, operator), ()):
        present = [(n, len(written[n])) for n in names if written.get(n)]
        if len({k for _, k in present}) > 1:
            yield "these lists must be of one length: " + ", ".join(f"{n} has {k}" for n, k in present)


def _spatial(written: Mapping[str, Any]) -> Iterator[str]:
    first: tuple[str, int] | None = None
    for name, each in _SPATIAL:
        values = written.get(name)
        # An empty list is what some exporters write for "the default".
        if not values:
            continue
        axes, rest = divmod(len(values), each)
        if rest:
            yield f"pads has {len(values)} entries; it must have two for each spatial axis"
        elif first is None:
            first = (name, axes)
        elif axes != first[1]:
            yield f"{name} is for {axes} spatial axes, {first[0]} is for {first[1]}"


def _recurrent(operator: str, written: Mapping[str, Any]) -> Iterator[str]:
    directions = 2 if written.get("direction") == "bidirectional" else 1
    activations = written.get("activations")
    if activations and len(activations) != _RECURRENT[operator] * directions:
        yield (f"activations has {len(activations)} entries, {directions} direction{'s' if directions > 1 else ''} "
               f"take{'' if directions > 1 else 's'} {_RECURRENT[operator] * directions}")


def _linear(written: Mapping[str, Any]) -> Iterator[str]:
    """Coefficients are a row of equal length for each class or target, intercepts one number for each."""
    coefficients, intercepts = written.get("coefficients"), written.get("intercepts")
    if coefficients and intercepts and len(coefficients) % len(intercepts):
        yield f"the {len(coefficients)} coefficients do not divide among {len(intercepts)} intercepts"
    targets = written.get("targets")
    if targets and targets > 0 and intercepts and len(intercepts) not in (1, targets):
        yield f"intercepts has {len(intercepts)} entries for {targets} targets"
