"""Laying our outputs and gradients beside somebody else's, with the tolerances that every family must meet."""

import numpy as np

FIELDS = ("logits", "last_hidden_state", "pooler_output", "prediction_logits", "seq_relationship_logits", "sop_logits", "start_logits",
          "end_logits", "encoder_last_hidden_state")  # fmt: skip
LISTS = ("hidden_states", "attentions", "encoder_hidden_states", "encoder_attentions", "decoder_hidden_states", "decoder_attentions",
         "cross_attentions")  # fmt: skip


def check_outputs(out, expected, case, tolerance, loss_tolerance):
    """Every field that `expected` (name -> array, or list of arrays) holds; padding queries of a decoder are left out."""
    real = np.asarray(case.inputs.get("attention_mask", np.ones_like(case.inputs["input_ids"]))).astype(bool)
    assert set(expected) & set(FIELDS + LISTS), "nothing to compare"
    for name, want in expected.items():
        got = out[name]
        assert got is not None, f"{name} is missing"
        if name == "loss":
            assert abs(got.item() - float(want)) <= loss_tolerance * max(1.0, abs(float(want))), (
                f"loss: {got.item()} for {float(want)}"
            )
            continue
        pairs = zip(got, want, strict=True) if name in LISTS else [(got, want)]
        for i, (g, w) in enumerate(pairs):
            g, w = g.data, np.asarray(w)
            assert g.shape == w.shape, f"{name}[{i}]: {g.shape} for {w.shape}"
            if case.decoder and g.ndim > 2:  # one row per sequence has no padding
                g, w = (np.moveaxis(x, 2, 1)[real] if name == "attentions" else x[real] for x in (g, w))
            scale = max(1.0, np.abs(w).max())
            assert np.abs(g - w).max() <= tolerance * scale, f"{name}[{i}]: off by {np.abs(g - w).max():.3g}"


def check(model, case, outputs, gradients, tolerance, gradient_tolerance):
    """Outputs, with every state and pattern shown and on the fused path, which must say the same, and all gradients."""
    loss_tolerance = min(tolerance, 1e-5)
    shown = model(**case.inputs, output_hidden_states=True, output_attentions=True)
    check_outputs(shown, outputs, case, tolerance, loss_tolerance)
    out, got = backward(model, case)
    plain = {n: w for n, w in outputs.items() if n not in LISTS}
    check_outputs(out, plain, case, tolerance, loss_tolerance)
    check_gradients(got, gradients, gradient_tolerance)


def weighing(shape, case):
    """Weights in [-1, 1] that make one number of a base model's states; a decoder's padding counts nothing."""
    weights = np.sin(np.arange(int(np.prod(shape)))).reshape(shape)
    return weights * case.inputs["attention_mask"][..., None] if case.decoder else weights


def backward(model, case):
    """The output, and the gradients of its loss or of a fixed weighing of a base model's states."""
    out = model(**case.inputs)
    loss = out.loss
    if loss is None:
        states = out.last_hidden_state
        loss = (states * weighing(states.shape, case).astype(states.dtype)).sum()
    loss.backward()
    return out, published_gradients(model)


def published_gradients(model):
    """Our gradients in the layout of published checkpoints: name -> array."""
    parameters = dict(model.named_parameters())
    parts: dict[str, list] = {}
    for ours, place in model.weight_names().items():
        value = parameters[ours]
        grad = np.zeros(value.shape, value.dtype) if value.grad is None else value.grad.data
        parts.setdefault(place.name, []).append((place, grad))
    result = {}
    for name, members in parts.items():
        members.sort(key=lambda m: m[0].part)
        whole = np.concatenate([g for _, g in members])
        result[name] = whole.T if members[0][0].transposed else whole
    return result


def check_gradients(got, expected, tolerance):
    """Within `tolerance` of each parameter's scale. A key's bias moves all scores of a query alike and so has no gradient but
    rounding noise: the scale is not taken below a thousandth of the largest gradient anywhere."""
    floor = 1e-3 * max(np.abs(w).max() for w in expected.values())
    missing = {n for n, w in expected.items() if n not in got and np.abs(w).max() > 0}
    assert not missing, f"no gradient for {sorted(missing)}"
    for name, g in got.items():
        want = expected[name]
        error = np.abs(g - want).max() / max(np.abs(want).max(), floor)
        assert error <= tolerance, f"gradient of {name}: off by {error:.3g} of its scale"
