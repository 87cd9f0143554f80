//! Convolution and linear as dot products of int16, equal to `reference` bit for bit.
//!
//! Codes are centred, `q − zero_point` in `[−255, 255]`, so that padding is 0 and products with weights fit the int16 × int16 →
//! int32 pair sums of vector units. Integer addition is associative and validation bounds every partial sum, so any order of
//! summation gives the reference's accumulator; both then use the one requantization. Not here: operations that are not sums of
//! products, which have only their reference form.

use alloc::{vec, vec::Vec};

use super::reference::{Operand, image};
use crate::{
    model::{Conv2d, Linear, Requantize, ValueInfo},
    requantize::requantize,
};

/// Rows of weights are padded with zeros to a multiple of this many columns.
const LANES: usize = 8;

/// Output positions whose input patches are gathered together.
const TILE: usize = 32;

/// Weights as rows of int16, one per output channel.
#[derive(Debug)]
pub(crate) struct PackedRows {
    /// `[rows, columns]`, zero beyond the row's own length.
    rows: Vec<i16>,
    /// Padded row length.
    columns: usize,
}

impl PackedRows {
    /// `weight` is `[rows, length]`, row-major.
    pub(crate) fn new(weight: &[i8], rows: usize) -> Self {
        let length = weight.len() / rows;
        let columns = length.next_multiple_of(LANES);
        let mut packed = vec![0; rows * columns];
        for (to, from) in packed.chunks_exact_mut(columns).zip(weight.chunks_exact(length)) {
            for (to, &from) in to.iter_mut().zip(from) {
                *to = i16::from(from);
            }
        }
        Self { rows: packed, columns }
    }

    fn row(&self, index: usize) -> &[i16] {
        &self.rows[index * self.columns..(index + 1) * self.columns]
    }
}

/// Buffers that live from call to call and only grow.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    /// The centred input with its padding, `[c_in, h + top + bottom, w + left + right]`.
    image: Vec<i16>,
    /// `[positions, columns]`; what stands beyond a row's own length meets weights that are 0.
    patches: Vec<i16>,
}

/// The first `length` elements, allocated where there are fewer.
fn first(buffer: &mut Vec<i16>, length: usize) -> &mut [i16] {
    if buffer.len() < length {
        buffer.resize(length, 0);
    }
    &mut buffer[..length]
}

/// Dot product of slices of one length. This plain form is the one in which compilers recognise the multiply-add of
/// int16 pairs that vector units have.
fn dot(x: &[i16], w: &[i16]) -> i32 {
    x.iter().zip(w).map(|(&x, &w)| i32::from(x) * i32::from(w)).sum()
}

/// Calls `emit(position, channel, dot product)` for every patch and every weight row in `channels`.
fn products(patches: &[i16], packed: &PackedRows, channels: core::ops::Range<usize>, mut emit: impl FnMut(usize, usize, i32)) {
    for channel in channels {
        let row = packed.row(channel);
        for (position, patch) in patches.chunks_exact(packed.columns).enumerate() {
            emit(position, channel, dot(patch, row));
        }
    }
}

/// The code of one sum under a node's rule.
fn finish(rule: &Requantize, bias: &[i32], y_info: &ValueInfo, channel: usize, sum: i32) -> i8 {
    requantize(sum + bias[channel], rule.multiplier[channel], y_info.qparams.zero_point, rule.min, rule.max)
}

/// Convolution; `packed` holds `op.weight`, `y` is `[c_out, h_out, w_out]`.
pub(crate) fn conv2d(op: &Conv2d, packed: &PackedRows, scratch: &mut Scratch, x: Operand, y_info: &ValueInfo, y: &mut [i8]) {
    let ([_, h, w], [_, h_out, w_out]) = (image(x.info), image(y_info));
    let [top, left, bottom, right] = op.padding;
    let (padded_h, padded_w) = (h + top + bottom, w + left + right);
    let centred = first(&mut scratch.image, op.c_in * padded_h * padded_w);
    centre(x, [h, w], [top, left], [padded_h, padded_w], centred);

    let (c_in_group, c_out_group) = (op.c_in / op.groups, op.c_out / op.groups);
    for group in 0..op.groups {
        let channels = group * c_out_group..(group + 1) * c_out_group;
        let planes = &centred[group * c_in_group * padded_h * padded_w..(group + 1) * c_in_group * padded_h * padded_w];
        for oy in 0..h_out {
            for start in (0..w_out).step_by(TILE) {
                let positions = TILE.min(w_out - start);
                let patches = first(&mut scratch.patches, positions * packed.columns);
                gather(op, planes, [padded_h, padded_w], [oy, start], packed.columns, patches);
                products(patches, packed, channels.clone(), |position, channel, sum| {
                    y[(channel * h_out + oy) * w_out + start + position] = finish(&op.requantize, &op.bias, y_info, channel, sum);
                });
            }
        }
    }
}

/// Writes `q − zero_point` inside a border of zeros.
fn centre(x: Operand, [h, w]: [usize; 2], [top, left]: [usize; 2], [padded_h, padded_w]: [usize; 2], centred: &mut [i16]) {
    let zero_point = x.info.qparams.zero_point as i16;
    if (padded_h, padded_w) != (h, w) {
        centred.fill(0);
    }
    for (plane, codes) in centred.chunks_exact_mut(padded_h * padded_w).zip(x.codes.chunks_exact(h * w)) {
        for (row, codes) in plane[top * padded_w..].chunks_exact_mut(padded_w).zip(codes.chunks_exact(w)) {
            for (to, &code) in row[left..].iter_mut().zip(codes) {
                *to = i16::from(code) - zero_point;
            }
        }
    }
}

/// Copies the inputs of a run of output positions of row `oy`, from column `start` on, as the rows of `patches`.
fn gather(
    op: &Conv2d,
    planes: &[i16],
    [padded_h, padded_w]: [usize; 2],
    [oy, start]: [usize; 2],
    columns: usize,
    patches: &mut [i16],
) {
    let stride = op.stride[1];
    let mut column = 0;
    for plane in planes.chunks_exact(padded_h * padded_w) {
        for ky in 0..op.kernel[0] {
            let row = &plane[(oy * op.stride[0] + ky * op.dilation[0]) * padded_w..][..padded_w];
            for kx in 0..op.kernel[1] {
                let mut input = start * stride + kx * op.dilation[1];
                for patch in patches.chunks_exact_mut(columns) {
                    patch[column] = row[input];
                    input += stride;
                }
                column += 1;
            }
        }
    }
}

/// Fully connected layer; `packed` holds `op.weight`, `y` is `[d_output]`.
pub(crate) fn linear(op: &Linear, packed: &PackedRows, scratch: &mut Scratch, x: Operand, y_info: &ValueInfo, y: &mut [i8]) {
    let zero_point = x.info.qparams.zero_point as i16;
    let patch = first(&mut scratch.patches, packed.columns);
    for (to, &code) in patch.iter_mut().zip(x.codes) {
        *to = i16::from(code) - zero_point;
    }
    products(patch, packed, 0..op.d_output, |_, channel, sum| {
        y[channel] = finish(&op.requantize, &op.bias, y_info, channel, sum);
    });
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use crate::{
        kernels::reference,
        model::{QParams, ValueInfo},
    };
    use alloc::string::String;
    use proptest::{prelude::*, test_runner::RngSeed};

    fn info(shape: &[usize], zero_point: i32) -> ValueInfo {
        ValueInfo { name: String::new(), shape: shape.to_vec(), qparams: QParams { scale: 1.0, zero_point } }
    }

    /// A convolution with its input, output shape included.
    #[derive(Debug)]
    struct Problem {
        op: Conv2d,
        x_info: ValueInfo,
        y_info: ValueInfo,
        codes: Vec<i8>,
    }

    prop_compose! {
        fn geometry()(
            groups in 1usize..=3, c_in in 1usize..=3, c_out in 1usize..=6, size in (1usize..=9, 1usize..=40),
            kernel in (1usize..=4, 1usize..=4), stride in (1usize..=3, 1usize..=3),
            padding in prop::array::uniform4(0usize..=3), dilation in (1usize..=2, 1usize..=2),
        ) -> (Conv2d, [usize; 2]) {
            let op = Conv2d {
                name: String::new(), weight: Vec::new(), weight_scale: Vec::new(), bias: Vec::new(),
                c_out: c_out * groups, c_in: c_in * groups, kernel: [kernel.0, kernel.1], stride: [stride.0, stride.1], padding,
                dilation: [dilation.0, dilation.1], groups,
                requantize: Requantize { multiplier: Vec::new(), min: -128, max: 127 },
            };
            (op, [size.0, size.1])
        }
    }

    /// The extremes, their neighbours and everything between; −128 is no weight.
    fn codes(length: usize, lowest: i8) -> impl Strategy<Value = Vec<i8>> {
        prop::collection::vec(prop_oneof![Just(lowest), Just(127i8), Just(0i8), lowest..=127i8], length)
    }

    fn problem() -> impl Strategy<Value = Problem> {
        geometry()
            .prop_filter("the kernel fits", |(op, [h, w])| op.output_shape(&[op.c_in, *h, *w]).is_some())
            .prop_flat_map(|(op, [h, w])| {
                let x_shape = [op.c_in, h, w];
                (
                    codes(op.c_out * op.c_in / op.groups * op.kernel[0] * op.kernel[1], -127),
                    codes(x_shape.iter().product(), -128),
                    prop::collection::vec(-100_000i32..100_000, op.c_out),
                    // Powers of two put sums on ties.
                    prop::collection::vec(prop_oneof![(-14i32..0).prop_map(|e| 2f32.powi(e)), 1e-4f32..1.0], op.c_out),
                    (-128i32..=127, -128i32..=127),
                    (any::<i8>(), any::<i8>()),
                    Just((op, x_shape)),
                )
            })
            .prop_map(|(weight, codes, bias, multiplier, (zero_in, zero_out), (a, b), (op, x_shape))| {
                let requantize = Requantize { multiplier, min: a.min(b), max: a.max(b) };
                let op = Conv2d { weight, bias, requantize, ..op };
                let y_info = info(&op.output_shape(&x_shape).expect("filtered"), zero_out);
                Problem { x_info: info(&x_shape, zero_in), y_info, codes, op }
            })
    }

    proptest! {
        #![proptest_config(ProptestConfig { rng_seed: RngSeed::Fixed(20261123), ..ProptestConfig::with_cases(2000) })]

        #[test]
        fn conv2d_equals_the_reference(problems in prop::collection::vec(problem(), 1..3)) {
            // One scratch for several problems: what an earlier one left must not matter.
            let mut scratch = Scratch::default();
            for Problem { op, x_info, y_info, codes } in problems {
                let x = Operand { codes: &codes, info: &x_info };
                let mut expected = vec![0; y_info.elements().unwrap()];
                let mut found = expected.clone();
                reference::conv2d(&op, x, &y_info, &mut expected);
                conv2d(&op, &PackedRows::new(&op.weight, op.c_out), &mut scratch, x, &y_info, &mut found);
                prop_assert_eq!(found, expected);
            }
        }

        #[test]
        fn linear_equals_the_reference((d_input, d_output, weight, x, bias, multiplier, zero_in, zero_out) in
            (1usize..70, 1usize..12).prop_flat_map(|(d_input, d_output)| (
                Just(d_input), Just(d_output), codes(d_input * d_output, -127), codes(d_input, -128),
                prop::collection::vec(-100_000i32..100_000, d_output),
                prop::collection::vec(prop_oneof![(-14i32..0).prop_map(|e| 2f32.powi(e)), 1e-4f32..1.0], d_output),
                -128i32..=127, -128i32..=127,
            ))
        ) {
            let op = Linear {
                name: String::new(), weight, weight_scale: Vec::new(), bias, d_input, d_output,
                requantize: Requantize { multiplier, min: -128, max: 127 },
            };
            let (x_info, y_info) = (info(&[d_input], zero_in), info(&[d_output], zero_out));
            let x = Operand { codes: &x, info: &x_info };
            let (mut expected, mut found) = (vec![0; d_output], vec![0; d_output]);
            reference::linear(&op, x, &y_info, &mut expected);
            linear(&op, &PackedRows::new(&op.weight, d_output), &mut Scratch::default(), x, &y_info, &mut found);
            prop_assert_eq!(found, expected);
        }
    }
}
