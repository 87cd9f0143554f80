//! Convolution and linear as dot products of int16, equal to `reference` bit for bit.
//!
//! Codes are centred, `q − zero_point` in `[−255, 255]`, so that padding is 0 and products with weights fit the int16 × int16 →
//! int32 pair sums of vector units. Integer addition is associative and validation bounds every partial sum, so any order of
//! summation gives the reference's accumulator; both then use the one requantization. Not here: operations that are not sums of
//! products, which have only their reference form.

use alloc::{vec, vec::Vec};

use super::reference::image;
use crate::{
    model::ValueInfo,
    op::{Clamp, Conv2d, Linear, Weights},
    packed::PackedCodes,
    requantize::Scaling,
    rules::Rules,
    sum_rule::{SumRule, scalings},
};

/// One sample's int8 codes and their meaning.
type Operand<'a> = (&'a [i8], &'a ValueInfo);

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
    pub(crate) fn new(weight: &PackedCodes, rows: usize) -> Self {
        let weight = weight.unpack();
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
fn finish(weights: &Weights, clamp: Clamp, scaling: &[Scaling], y_info: &ValueInfo, channel: usize, sum: i32) -> i8 {
    scaling[channel].code(i64::from(sum) + weights.bias[channel], y_info.qparams.zero_point, clamp) as i8
}

/// Convolution; `packed` holds `op.weight`, `y` is `[c_out, h_out, w_out]`.
pub(crate) fn conv2d(
    rules: Rules,
    op: &Conv2d,
    packed: &PackedRows,
    scratch: &mut Scratch,
    x: Operand,
    y_info: &ValueInfo,
    y: &mut [i8],
) {
    let scaling = scalings(SumRule::conv2d(rules, op, x.1.code_type), &op.weights, x.1, y_info);
    let ([_, h, w], [_, h_out, w_out]) = (image(x.1), image(y_info));
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
                    y[(channel * h_out + oy) * w_out + start + position] =
                        finish(&op.weights, op.clamp, &scaling, y_info, channel, sum);
                });
            }
        }
    }
}

/// Writes `q − zero_point` inside a border of zeros.
fn centre(x: Operand, [h, w]: [usize; 2], [top, left]: [usize; 2], [padded_h, padded_w]: [usize; 2], centred: &mut [i16]) {
    let zero_point = x.1.qparams.zero_point as i16;
    if (padded_h, padded_w) != (h, w) {
        centred.fill(0);
    }
    for (plane, codes) in centred.chunks_exact_mut(padded_h * padded_w).zip(x.0.chunks_exact(h * w)) {
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

/// Fully connected layer; `packed` holds the weights, `y` is `[.., d_output]`.
pub(crate) fn linear(
    rules: Rules,
    op: &Linear,
    packed: &PackedRows,
    scratch: &mut Scratch,
    x: Operand,
    y_info: &ValueInfo,
    y: &mut [i8],
) {
    let scaling = scalings(SumRule::linear(rules, op, x.1.code_type), &op.weights, x.1, y_info);
    let zero_point = x.1.qparams.zero_point as i16;
    let rows = x.0.len() / op.d_input;
    let patches = first(&mut scratch.patches, rows * packed.columns);
    for (patch, codes) in patches.chunks_exact_mut(packed.columns).zip(x.0.chunks_exact(op.d_input)) {
        for (to, &code) in patch.iter_mut().zip(codes) {
            *to = i16::from(code) - zero_point;
        }
    }
    products(patches, packed, 0..op.d_output, |row, channel, sum| {
        y[row * op.d_output + channel] = finish(&op.weights, op.clamp, &scaling, y_info, channel, sum);
    });
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use crate::{
        codes::{Codes, CodesRef},
        kernels::reference::{self, Output},
        model::QParams,
        op::Op,
    };
    use alloc::string::String;
    use proptest::{prelude::*, test_runner::RngSeed};

    fn info(shape: &[usize], zero_point: i32) -> ValueInfo {
        ValueInfo::int8("", shape, QParams { scale: 1.0, zero_point })
    }

    fn weights(codes: &[i8], scale: Vec<f32>, bias: &[i32]) -> Weights {
        Weights { codes: PackedCodes::eight(codes), scale, bias: bias.iter().map(|&b| b.into()).collect() }
    }

    /// What the reference gives for one operation.
    fn expected(op: &Op, x: &[i8], x_info: &ValueInfo, y_info: &ValueInfo) -> Vec<i8> {
        let mut codes = Codes::zeros(y_info.code_type, y_info.elements().unwrap());
        let operand = reference::Operand { codes: CodesRef::Int8(x), info: x_info };
        reference::compute(Rules::OnnxRuntime, op, &[operand], &mut Output { codes: codes.view_mut(), info: y_info });
        codes.as_int8().unwrap().to_vec()
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
                name: String::new(), weights: weights(&[], Vec::new(), &[]),
                c_out: c_out * groups, c_in: c_in * groups, kernel: [kernel.0, kernel.1], stride: [stride.0, stride.1], padding,
                dilation: [dilation.0, dilation.1], groups, clamp: Clamp::INT8,
            };
            (op, [size.0, size.1])
        }
    }

    /// The extremes, their neighbours and everything between.
    fn codes(length: usize, lowest: i8) -> impl Strategy<Value = Vec<i8>> {
        prop::collection::vec(prop_oneof![Just(lowest), Just(127i8), Just(0i8), lowest..=127i8], length)
    }

    fn problem() -> impl Strategy<Value = Problem> {
        geometry()
            .prop_filter("the kernel fits", |(op, [h, w])| op.output_shape(&[op.c_in, *h, *w]).is_some())
            .prop_flat_map(|(op, [h, w])| {
                let x_shape = [op.c_in, h, w];
                (
                    codes(op.c_out * op.c_in / op.groups * op.kernel[0] * op.kernel[1], -128),
                    codes(x_shape.iter().product(), -128),
                    prop::collection::vec(-100_000i32..100_000, op.c_out),
                    // Powers of two put sums on ties.
                    prop::collection::vec(prop_oneof![(-14i32..0).prop_map(|e| 2f32.powi(e)), 1e-4f32..1.0], op.c_out),
                    (-128i32..=127, -128i32..=127),
                    (any::<i8>(), any::<i8>()),
                    Just((op, x_shape)),
                )
            })
            .prop_map(|(weight, codes, bias, scale, (zero_in, zero_out), (a, b), (op, x_shape))| {
                let clamp = Clamp { min: a.min(b).into(), max: a.max(b).into() };
                let op = Conv2d { weights: weights(&weight, scale, &bias), clamp, ..op };
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
                let mut found = vec![0; y_info.elements().unwrap()];
                let packed = PackedRows::new(&op.weights.codes, op.c_out);
                conv2d(Rules::OnnxRuntime, &op, &packed, &mut scratch, (&codes, &x_info), &y_info, &mut found);
                prop_assert_eq!(found, expected(&Op::Conv2d(op), &codes, &x_info, &y_info));
            }
        }

        #[test]
        fn linear_equals_the_reference((rows, d_input, d_output, weight, x, bias, scale, zero_in, zero_out) in
            (1usize..4, 1usize..70, 1usize..12).prop_flat_map(|(rows, d_input, d_output)| (
                Just(rows), Just(d_input), Just(d_output), codes(d_input * d_output, -128), codes(rows * d_input, -128),
                prop::collection::vec(-100_000i32..100_000, d_output),
                prop::collection::vec(prop_oneof![(-14i32..0).prop_map(|e| 2f32.powi(e)), 1e-4f32..1.0], d_output),
                -128i32..=127, -128i32..=127,
            ))
        ) {
            let weights = weights(&weight, scale, &bias);
            let op = Linear { name: String::new(), weights, d_input, d_output, clamp: Clamp::INT8 };
            let (x_info, y_info) = (info(&[rows, d_input], zero_in), info(&[rows, d_output], zero_out));
            let mut found = vec![0; rows * d_output];
            let packed = PackedRows::new(&op.weights.codes, d_output);
            linear(Rules::OnnxRuntime, &op, &packed, &mut Scratch::default(), (&x, &x_info), &y_info, &mut found);
            prop_assert_eq!(found, expected(&Op::Linear(op), &x, &x_info, &y_info));
        }
    }
}
