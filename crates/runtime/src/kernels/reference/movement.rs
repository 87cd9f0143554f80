//! Operations on codes, whose grid stays that of their input: the same under all rules.

use super::{
    Operand, Output,
    index::{offset, strides},
};
use crate::{
    codes::CodesRef,
    op::{Clamp, Concat, Gather, Pad, ResizeNearest, Slice, Transpose},
};

/// Codes outside the clamp become its ends.
pub(super) fn clamp(clamp: Clamp, x: Operand, y: &mut Output) {
    for index in 0..y.codes.len() {
        y.codes.set(index, x.codes.at(index).clamp(clamp.min.into(), clamp.max.into()));
    }
}

/// The same codes.
pub(super) fn reshape(x: Operand, y: &mut Output) {
    constant(x.codes, y);
}

/// These codes.
pub(super) fn constant(codes: CodesRef, y: &mut Output) {
    for index in 0..y.codes.len() {
        y.codes.set(index, codes.at(index));
    }
}

/// The inputs one after another along the axis.
pub(super) fn concat(op: Concat, inputs: &[Operand], y: &mut Output) {
    let strides_y = strides(&y.info.shape);
    let mut start = 0;
    for x in inputs {
        for index in 0..x.codes.len() {
            let at = offset(index, &x.info.shape, |axis, coordinate| {
                (coordinate + if axis == op.axis { start } else { 0 }) * strides_y[axis]
            });
            y.codes.set(at, x.codes.at(index));
        }
        start += x.info.shape[op.axis];
    }
}

/// Axis `i` of the output is axis `permutation[i]` of the input.
pub(super) fn transpose(op: &Transpose, x: Operand, y: &mut Output) {
    let strides_x = strides(&x.info.shape);
    for index in 0..y.codes.len() {
        let at = offset(index, &y.info.shape, |axis, coordinate| coordinate * strides_x[op.permutation[axis]]);
        y.codes.set(index, x.codes.at(at));
    }
}

/// Real 0, that is the zero point, around the input.
pub(super) fn pad(op: &Pad, x: Operand, y: &mut Output) {
    let strides_y = strides(&y.info.shape);
    for index in 0..y.codes.len() {
        y.codes.set(index, x.info.qparams.zero_point);
    }
    for index in 0..x.codes.len() {
        let at = offset(index, &x.info.shape, |axis, coordinate| (coordinate + op.before[axis]) * strides_y[axis]);
        y.codes.set(at, x.codes.at(index));
    }
}

/// Every `step`th element of the box.
pub(super) fn slice(op: &Slice, x: Operand, y: &mut Output) {
    let strides_x = strides(&x.info.shape);
    for index in 0..y.codes.len() {
        let at = offset(index, &y.info.shape, |axis, coordinate| (op.start[axis] + coordinate * op.step[axis]) * strides_x[axis]);
        y.codes.set(index, x.codes.at(at));
    }
}

/// Every pixel becomes a block.
pub(super) fn resize_nearest(op: ResizeNearest, x: Operand, y: &mut Output) {
    let (strides_x, factor) = (strides(&x.info.shape), [1, op.factor[0], op.factor[1]]);
    for index in 0..y.codes.len() {
        let at = offset(index, &y.info.shape, |axis, coordinate| coordinate / factor[axis] * strides_x[axis]);
        y.codes.set(index, x.codes.at(at));
    }
}

/// Rows of the table; an index outside it gives real 0.
pub(super) fn gather(op: &Gather, x: Operand, y: &mut Output) {
    for position in 0..x.codes.len() {
        let row = usize::try_from(x.codes.at(position)).ok().filter(|&row| row < op.rows);
        for column in 0..op.width {
            let code = row.map_or(y.info.qparams.zero_point, |row| op.table.get(row * op.width + column).into());
            y.codes.set(position * op.width + column, code);
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::{
        super::testing::{int8, run},
        *,
    };
    use crate::{
        codes::{CodeType, Codes},
        model::{QParams, ValueInfo},
        op::Op,
        packed::PackedCodes,
        rules::Rules,
    };

    #[test]
    fn a_relu_raises_codes_to_the_zero_point() {
        let info = int8(&[3], 1.0, -5);
        let relu = Op::Clamp(Clamp { min: -5, max: 127 });
        assert_eq!(run(Rules::OnnxRuntime, &relu, &[(&[-6, -5, 4], &info)], &info), [-5, -5, 4]);
    }

    #[test]
    fn concatenation_follows_its_axis() {
        let (a, b, y) = (int8(&[2, 1], 1.0, 0), int8(&[2, 2], 1.0, 0), int8(&[2, 3], 1.0, 0));
        let op = Op::Concat(Concat { axis: 1 });
        assert_eq!(run(Rules::LiteRt, &op, &[(&[1, 2], &a), (&[3, 4, 5, 6], &b)], &y), [1, 3, 4, 2, 5, 6]);
    }

    #[test]
    fn codes_move_to_where_the_attributes_say() {
        let (x, codes) = (int8(&[2, 3], 1.0, 9), [1, 2, 3, 4, 5, 6]);
        let apply = |op: Op, shape: &[usize]| run(Rules::TfliteMicro, &op, &[(&codes, &x)], &int8(shape, 1.0, 9));
        assert_eq!(apply(Op::Transpose(Transpose { permutation: vec![1, 0] }), &[3, 2]), [1, 4, 2, 5, 3, 6]);
        assert_eq!(apply(Op::Pad(Pad { before: vec![1, 0], after: vec![0, 1] }), &[3, 4]), [9, 9, 9, 9, 1, 2, 3, 9, 4, 5, 6, 9]);
        let every_second = Slice { start: vec![0, 0], end: vec![2, 3], step: vec![1, 2] };
        assert_eq!(apply(Op::Slice(every_second), &[2, 2]), [1, 3, 4, 6]);
        let corner = Slice { start: vec![1, 1], end: vec![2, 3], step: vec![1, 1] };
        assert_eq!(apply(Op::Slice(corner), &[1, 2]), [5, 6]);
        assert_eq!(apply(Op::Reshape, &[6]), [1, 2, 3, 4, 5, 6]);
        assert_eq!(apply(Op::Constant(Codes::Int8(vec![7, 8])), &[2]), [7, 8]);
    }

    #[test]
    fn pixels_become_blocks() {
        let (x, y) = (int8(&[1, 1, 2], 1.0, 0), int8(&[1, 2, 6], 1.0, 0));
        let op = Op::ResizeNearest(ResizeNearest { factor: [2, 3] });
        assert_eq!(run(Rules::OnnxRuntime, &op, &[(&[1, 2], &x)], &y), [1, 1, 1, 2, 2, 2, 1, 1, 1, 2, 2, 2]);
    }

    #[test]
    fn indices_outside_the_table_give_real_zero() {
        let qparams = QParams { scale: 1.0, zero_point: 0 };
        let indices = ValueInfo { code_type: CodeType::Int32, ..ValueInfo::int8("", &[3], qparams) };
        let y = int8(&[3, 2], 0.5, -4);
        let op = Gather { name: "embedding".into(), table: PackedCodes::eight(&[1, 2, 3, 4]), rows: 2, width: 2 };
        let mut codes = Codes::zeros(CodeType::Int8, 6);
        let x = Operand { codes: CodesRef::Int32(&[1, -1, 2]), info: &indices };
        gather(&op, x, &mut Output { codes: codes.view_mut(), info: &y });
        assert_eq!(codes.to_i32s(), [3, 4, -4, -4, -4, -4]);
    }
}
