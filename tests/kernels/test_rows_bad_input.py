"""Bad input to row kernels: both backends raise the same error, and its message names the argument."""
import numpy as np
import pytest
from numpy.lib.stride_tricks import as_strided

import kernels

X = np.ones((2, 3), np.float32)
ROW = np.ones(2, np.float32)
IDS = np.array([0, 2])
READ_ONLY = np.ones((2, 3), np.float32)
READ_ONLY.flags.writeable = False
WIDE, SQUARE, TALL = np.ones((2, 6), np.float32), np.ones((3, 3), np.float32), np.ones((5, 3), np.float32)
ANGLES = np.ones((4, 1), np.float32)


def adamw(p, g=None, step=1, m=None):
    zeros = [np.zeros_like(x) for x in p]
    kernels.adamw_step(p, zeros if g is None else g, zeros if m is None else m, zeros, 0.1, 0.9, 0.9, 1e-8, 0.0, step)


BAD = {
    "a list": (TypeError, "x: expected a numpy array", lambda: kernels.gelu_forward([1.0])),
    "half precision": (TypeError, "x: .*float16.*astype", lambda: kernels.softmax_forward(X.astype(np.float16))),
    "integers": (TypeError, "x: .*int64", lambda: kernels.layer_norm_forward(np.ones((2, 3), int))),
    "no axis": (ValueError, "x: expected at least one axis", lambda: kernels.rms_norm_forward(np.ones((), np.float32))),
    "weight's length": (ValueError, r"weight: expected shape \(3,\)", lambda: kernels.layer_norm_forward(X, ROW, ROW)),
    "weight's dtype": (TypeError, "weight: expected dtype float32", lambda: kernels.rms_norm_forward(X, np.ones(3))),
    "bias's length": (ValueError, "bias: expected shape", lambda: kernels.layer_norm_forward(X, X[0], ROW)),
    "gradient's shape": (ValueError, r"g: expected shape \(2, 3\)", lambda: kernels.gelu_backward(X.T, X)),
    "a gradient that is a list": (TypeError, "g: expected a numpy array, got list", lambda: kernels.gelu_backward([[1.0]], X)),
    "a bias that is a list": (TypeError, "bias: expected a numpy array, got list", lambda: kernels.layer_norm_forward(X, X[0], [1.0])),
    "statistics that are a list": (TypeError, "rstd: expected a numpy array, got list",
                                   lambda: kernels.rms_norm_backward(X, X, X[0], [1.0])),
    "gradient's dtype": (TypeError, "g: expected dtype float32", lambda: kernels.softmax_backward(X.astype(float), X)),
    "no mean": (TypeError, "mean: expected a numpy array, got NoneType", lambda: kernels.layer_norm_backward(X, X, X[0], None, ROW)),
    "statistics": (ValueError, "rstd: expected one number per row", lambda: kernels.rms_norm_backward(X, X, X[0], X[0])),
    "statistics' dtype": (TypeError, "rstd: expected dtype float32",
                          lambda: kernels.rms_norm_backward(X, X, X[0], ROW.astype(float))),
    "gradient of LayerNorm": (ValueError, r"g: expected shape \(2, 3\)",
                              lambda: kernels.layer_norm_backward(X[:1], X, X[0], ROW, ROW)),
    "gradient of a norm": (ValueError, r"g: expected shape \(2, 3\)", lambda: kernels.rms_norm_backward(X[:1], X, X[0], ROW)),
    "residual beside RMSNorm": (ValueError, "residual: expected shape", lambda: kernels.add_rms_norm_forward(X, X[:1])),
    "residual": (ValueError, "residual: expected shape", lambda: kernels.add_layer_norm_forward(X, X.T)),
    "g_total": (ValueError, "g_total: expected shape", lambda: kernels.add_rms_norm_backward(X, X.T, X, X[0], ROW)),
    "axis": (ValueError, "axis 2 is out of range", lambda: kernels.softmax_forward(X, 2)),
    "axis before the first": (ValueError, "axis -3 is out of range", lambda: kernels.softmax_forward(X, -3)),
    "approximate": (ValueError, "approximate: .*'erf'", lambda: kernels.gelu_forward(X, "erf")),
    "up": (ValueError, "up: expected shape", lambda: kernels.swiglu_forward(X, X.T)),
    "no up": (TypeError, "up: expected a numpy array, got NoneType", lambda: kernels.swiglu_forward(X, None)),
    "no up beside GELU": (TypeError, "up: expected a numpy array, got NoneType", lambda: kernels.geglu_forward(X, None, "tanh")),
    "gate": (TypeError, "gate: expected a numpy array, got list", lambda: kernels.swiglu_forward([1.0], X)),
    "gate of GELU": (TypeError, "gate: .*int64", lambda: kernels.geglu_forward(np.ones((2, 3), int), X)),
    "out's shape": (ValueError, "out: expected shape", lambda: kernels.gelu_forward(X, out=np.empty((3, 2), np.float32))),
    "out is read-only": (ValueError, "out: the array is read-only", lambda: kernels.silu_forward(X, out=READ_ONLY)),
    "value's dtype": (ValueError, "value: expected .* float32", lambda: kernels.silu_backward(X, X, value=np.empty(X.shape))),
    "value overlaps": (ValueError, "value: overlaps", lambda: kernels.gelu_backward(X, WIDE[:, :3], value=WIDE[:, 1:4])),
    "value overlaps the gradient": (ValueError, "value: overlaps",
                                    lambda: kernels.gelu_backward(WIDE[:, :3], X, value=WIDE[:, 1:4])),
    "out overlaps": (ValueError, "out: overlaps", lambda: kernels.layer_norm_forward(WIDE[:, :3], out=WIDE[:, 2:5])),
    "out overlaps in part": (ValueError, "out: overlaps", lambda: kernels.gelu_forward(WIDE[:, :3], out=WIDE[:, 1:4])),
    "targets' dtype": (TypeError, "targets: expected integers", lambda: kernels.cross_entropy_forward(X, ROW)),
    "targets' shape": (ValueError, "targets: expected shape", lambda: kernels.cross_entropy_forward(X, np.zeros(3, int))),
    "out is one row again and again": (ValueError, "out: overlaps itself",
                                       lambda: kernels.relu_forward(X, out=as_strided(WIDE, (2, 3), (0, 4)))),
    "out slides over itself": (ValueError, "out: overlaps itself",
                               lambda: kernels.embedding_backward(X, IDS, 4, out=as_strided(WIDE, (4, 3), (4, 4)))),
    "target out of range": (IndexError, r"targets: .*\[0, 3\) or -100, got 3 at \(1,\)",
                            lambda: kernels.cross_entropy_forward(X, np.array([0, 3]))),
    "negative target": (IndexError, "targets: .*got -1", lambda: kernels.cross_entropy_backward(1, X, np.array([-1, 0]), ROW)),
    "label smoothing": (ValueError, "label_smoothing", lambda: kernels.cross_entropy_forward(X, IDS, label_smoothing=1.5)),
    "row gradient": (ValueError, "g: expected one number", lambda: kernels.cross_entropy_backward(X[0], X, IDS, ROW)),
    "lse of fewer rows": (ValueError, "lse: expected one number per row",
                          lambda: kernels.cross_entropy_backward(1, X, IDS, ROW[:1])),
    "reduction": (ValueError, "reduction: .*'none'", lambda: kernels.linear_cross_entropy_forward(X, X, IDS % 2, reduction="none")),
    "no rows at a time": (ValueError, "chunk_rows: .*got -1",
                          lambda: kernels.linear_cross_entropy_forward(X, X, IDS % 2, chunk_rows=-1)),
    "out overlaps lse": (ValueError, "out: overlaps", lambda: kernels.cross_entropy_backward(1, X, IDS, WIDE[:, 0], out=WIDE[:, :3])),
    "out overlaps the weight": (ValueError, "out: overlaps", lambda: kernels.rms_norm_forward(X, WIDE[0, :3], out=WIDE[:, :3])),
    "out overlaps the bias": (ValueError, "out: overlaps",
                              lambda: kernels.layer_norm_forward(X, X[0], WIDE[1, :3], out=WIDE[:, :3])),
    "a moment twice": (ValueError, r"m\[0\] overlaps v\[0\]", lambda: adamw([X.copy()], [X.copy()])),
    "a parameter twice": (ValueError, r"param\[0\] overlaps param\[1\]",
                          lambda: kernels.adamw_step([WIDE, WIDE], *map(list, np.ones((3, 2, 2, 6), np.float32)), 0.1, 0.9, 0.9, 1e-8, 0.0, 1)),
    "a parameter beside its own gradient": (ValueError, r"param\[0\] overlaps grad\[0\]",
                                            lambda: adamw([WIDE[:, :3]], [WIDE[:, 1:4]])),
    "a parameter that is one row again": (ValueError, r"param\[0\]: overlaps itself",
                                          lambda: adamw([as_strided(WIDE, (2, 3), (0, 4))])),
    "out overlaps the second input": (ValueError, "out: overlaps", lambda: kernels.swiglu_forward(X, WIDE[:, :3], out=WIDE[:, 2:5])),
    "out overlaps the table": (ValueError, "out: overlaps", lambda: kernels.embedding_forward(WIDE, IDS[:1], out=WIDE[1:])),
    "out overlaps the gradient": (ValueError, "out: overlaps", lambda: kernels.embedding_backward(TALL[:2], IDS, 3, out=TALL[1:4])),
    "softmax half over its input": (ValueError, "out: overlaps", lambda: kernels.softmax_forward(WIDE[:, :3], out=WIDE[:, 1:4])),
    "log_softmax half over its input": (ValueError, "out: overlaps",
                                        lambda: kernels.log_softmax_forward(WIDE[:, :3], out=WIDE[:, 1:4])),
    "softmax into its transpose": (ValueError, "out: overlaps", lambda: kernels.softmax_forward(SQUARE, out=SQUARE.T)),
    "softmax into a list": (TypeError, "out: expected a numpy array", lambda: kernels.softmax_forward(X, out=[1.0])),
    "gradient half over the logits": (ValueError, "out: overlaps",
                                      lambda: kernels.cross_entropy_backward(1, WIDE[:, :3], IDS, ROW, out=WIDE[:, 1:4])),
    "unembedding": (ValueError, r"weight: expected shape \(V, 3\)",
                    lambda: kernels.linear_cross_entropy_forward(X, X.T.copy(), IDS)),
    "id out of range": (IndexError, r"ids: .*\[0, 2\), got 2 at \(1,\)", lambda: kernels.embedding_forward(X, IDS)),
    "negative id": (IndexError, "ids: .*got -1", lambda: kernels.embedding_backward(X, np.array([0, -1]), 5)),
    "ids are floats": (TypeError, "ids: expected integers", lambda: kernels.embedding_forward(X, ROW)),
    "ids are a mask": (TypeError, "ids: expected integers, got bool", lambda: kernels.embedding_forward(X, IDS > 0)),
    "a gradient for each id": (ValueError, "g: expected shape", lambda: kernels.embedding_backward(X, np.array([0, 1, 0]), 5)),
    "nothing to add to": (ValueError, "accumulate", lambda: kernels.embedding_backward(X, IDS, 5, accumulate=True)),
    "probability": (ValueError, r"p: .*\[0, 1\]", lambda: kernels.dropout_forward(X, 1.5, 0)),
    "less than none": (ValueError, r"p: .*\[0, 1\]", lambda: kernels.dropout_forward(X, -0.5, 0)),
    "too many angles": (ValueError, "cos: .*features", lambda: kernels.rotary_forward(X, X[:, :2].copy(), X[:, :2].copy())),
    "angles that do not fit": (ValueError, "cos: .*broadcast", lambda: kernels.rotary_forward(X, ANGLES, ANGLES)),
    "sin unlike cos": (ValueError, "sin: expected shape", lambda: kernels.rotary_forward(X, X[:, :1], X[:1, :1])),
    "sin is a list": (TypeError, "sin: expected a numpy array", lambda: kernels.rotary_backward(X, X[:, :1], [[1.0], [1.0]])),
    "sin in foreign byte order": (TypeError, "sin: .*>f4", lambda: kernels.rotary_backward(X, X[:, :1], X[:, :1].astype(">f4"))),
    "lists of unequal length": (ValueError, "equally long", lambda: adamw([X.copy()], g=[])),
    "parameters are integers": (TypeError, "param: expected float32", lambda: adamw([np.ones(3, int)])),
    "step 0": (ValueError, "step", lambda: adamw([X.copy()], step=0)),
    "read-only parameter": (ValueError, "param.0.: .*read-only", lambda: adamw([READ_ONLY])),
    "read-only moment": (ValueError, "m.0.: .*read-only", lambda: adamw([X.copy()], m=[READ_ONLY])),
    "moment's shape": (ValueError, r"m\[0\]: expected shape", lambda: adamw([X.copy()], m=[ROW])),
    "mixed parameters": (TypeError, "param: expected dtype", lambda: adamw([X.copy(), X.astype(float)])),
}


WORSE = {
    "approximate and g": lambda: kernels.gelu_backward(X.T, X, "erf"),
    "approximate and value": lambda: kernels.gelu_backward(X, X.astype(float), "erf", value=[1.0]),
    "approximate and gate": lambda: kernels.geglu_backward(X, [1.0], X, "erf"),
    "g_total and rstd": lambda: kernels.add_layer_norm_backward(X, X.T, X, X[0], ROW, ROW[:1]),
}


@pytest.mark.parametrize("case", WORSE)
def test_of_two_things_that_are_wrong_both_sides_name_the_same(case):
    said = []
    for side in kernels.SIDES:
        with kernels.use(side), pytest.raises((TypeError, ValueError)) as raised:
            WORSE[case]()
        said.append(str(raised.value))
    assert said[0] == said[1]


@pytest.mark.parametrize("side", kernels.SIDES)
@pytest.mark.parametrize("case", BAD)
def test_bad_input(case, side):
    error, message, call = BAD[case]
    with kernels.use(side), pytest.raises(error, match=message):
        call()
