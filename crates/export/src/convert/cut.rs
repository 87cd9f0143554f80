//! A transposed convolution whose result loses rows and columns at its ends is one with more padding: that is what padding of a
//! transposed convolution is.
//!
//! Burn's convolution cuts as much at the top as at the bottom; where TFLite's SAME or another framework's padding is odd, a graph has a
//! slice behind it.

use qat_runtime::{IntegerModel, Op, Slice, ValueId};

/// Puts such slices into their convolutions. Their values go, and those behind them move up.
pub(super) fn join(mut model: IntegerModel) -> IntegerModel {
    let mut index = 0;
    while index < model.nodes.len() {
        let Some((conv, padding)) = convolution(&model, index) else {
            index += 1;
            continue;
        };
        let slice = model.nodes.remove(index);
        let whole = std::mem::replace(&mut model.nodes[conv].output, slice.output);
        if let Op::ConvTranspose2d(op) = &mut model.nodes[conv].op {
            op.padding = padding;
        }
        drop_value(&mut model, whole);
    }
    model
}

/// The convolution that the slice at `index` alone reads, and the padding that it has then.
fn convolution(model: &IntegerModel, index: usize) -> Option<(usize, [usize; 4])> {
    let node = &model.nodes[index];
    let Op::Slice(Slice { start, end, step }) = &node.op else { return None };
    let [input] = node.inputs[..] else { return None };
    let conv = model.nodes.iter().position(|other| other.output == input)?;
    let Op::ConvTranspose2d(op) = &model.nodes[conv].op else { return None };
    let is_alone = model.nodes.iter().flat_map(|other| &other.inputs).filter(|other| **other == input).count() == 1;
    let [from, to] = [input, node.output].map(|value| &model.values[value.0]);
    let ([0, top, left], &[channels, bottom, right], &[c, h, w]) = (&start[..], &end[..], &from.shape[..]) else { return None };
    let fits = is_alone
        && input != model.output
        && step.iter().all(|step| *step == 1)
        && channels == c
        && op.output_padding == [0, 0]
        && (from.qparams, from.code_type) == (to.qparams, to.code_type);
    let more = [*top, *left, h.checked_sub(bottom)?, w.checked_sub(right)?];
    fits.then(|| (conv, std::array::from_fn(|side| op.padding[side] + more[side])))
}

fn drop_value(model: &mut IntegerModel, gone: ValueId) {
    model.values.remove(gone.0);
    let renumber = |value: &mut ValueId| value.0 -= usize::from(value.0 > gone.0);
    renumber(&mut model.input);
    renumber(&mut model.output);
    for node in &mut model.nodes {
        node.inputs.iter_mut().for_each(renumber);
        renumber(&mut node.output);
    }
}
