//! Fast forms of the operations on int8 codes, equal to `reference` bit for bit.
//!
//! A [`Kernel`] is made once for each node: it holds packed weights, multipliers and tables. Images stand channels last, `[h, w,
//! c]`, between the kernels that work on images; `plan` decides where. Integer addition is associative and validation bounds
//! every sum, so any order of summation gives the reference's; every rounding is the reference's too, or a form of it that is
//! stated beside it. What has no fast form stays with `reference`.
//!
//! `unsafe` is confined to `x86`.

mod add;
mod avg_pool2d;
mod binary;
mod conv2d;
mod depthwise;
mod finish;
mod image;
mod level;
mod linear;
mod mat_mul;
mod max_pool2d;
mod portable;
mod products;
mod scratch;
mod strided;
#[cfg(all(target_arch = "x86_64", feature = "std"))]
mod x86;

use alloc::{boxed::Box, vec, vec::Vec};

pub use level::Level;
pub(crate) use scratch::{Scratch, ScratchSize};

use self::{
    add::Add,
    avg_pool2d::AvgPool2d,
    binary::Binary,
    conv2d::Conv2d,
    depthwise::Depthwise,
    linear::Linear,
    mat_mul::MatMul,
    max_pool2d::MaxPool2d,
    strided::{Strided, strides},
};
use super::reference::{self, Operand, Output};
use crate::{
    codes::{CodeType, CodesMut, CodesRef},
    model::ValueInfo,
    op::{Clamp, Op},
    rules::Rules,
    sum_rule::SumRule,
};

/// How a node's operands and its result stand in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// Images as `[h, w, c]`.
    ChannelsLast,
    /// As `[h, w, c]` where some operand does, else in the order of the shape.
    Either,
    /// In the order of the shape.
    RowMajor,
}

/// Products of a layer below which exchanging results takes longer than computing them.
#[cfg(feature = "threads")]
const SHARED_PRODUCTS: usize = 1 << 19;

/// One node, prepared.
#[derive(Debug)]
pub(crate) enum Kernel {
    Conv2d(Box<Conv2d>),
    Depthwise(Box<Depthwise>),
    Linear(Box<Linear>),
    Add(Add),
    Binary(Binary),
    MatMul(MatMul),
    MaxPool2d(MaxPool2d),
    AvgPool2d(AvgPool2d),
    /// The codes of the first operand, confined.
    Clamp {
        min: i8,
        max: i8,
    },
    /// The code that stands for each code of the first operand, that for −128 first.
    Table(Box<[i8; 256]>),
    /// Operands copied to their places; what none of them covers is `fill`.
    Moves {
        moves: Vec<Strided>,
        fill: Option<i8>,
    },
}

/// Whether a value is an image whose two layouts differ.
pub(crate) fn is_image(info: &ValueInfo) -> bool {
    matches!(info.shape.as_slice(), &[c, h, w] if c > 1 && h * w > 1) && info.code_type == CodeType::Int8
}

/// The shape of an image, `[c, h, w]`.
fn image_shape(info: &ValueInfo) -> [usize; 3] {
    [info.shape[0], info.shape[1], info.shape[2]]
}

/// From the layout `[h, w, c]` to the order of the shape.
pub(crate) fn to_row_major(info: &ValueInfo) -> Kernel {
    Kernel::Moves { moves: vec![Strided::to_row_major(&image_shape(info))], fill: None }
}

/// From the order of the shape to `[h, w, c]`.
pub(crate) fn to_channels_last(info: &ValueInfo) -> Kernel {
    Kernel::Moves { moves: vec![Strided::to_channels_last(&image_shape(info))], fill: None }
}

/// The layout that the fast form of an operation works in; `None` where it has none.
pub(crate) fn layout(rules: Rules, op: &Op, inputs: &[&ValueInfo], y: &ValueInfo) -> Option<Layout> {
    if inputs.iter().chain([&y]).any(|info| info.code_type != CodeType::Int8) {
        return None;
    }
    match op {
        Op::Conv2d(_) | Op::MaxPool2d(_) | Op::ResizeNearest(_) => Some(Layout::ChannelsLast),
        Op::ConvTranspose2d(op) => {
            let integer = SumRule::conv_transpose2d(rules, CodeType::Int8) != SumRule::RealSum;
            (integer && Conv2d::spread_frame(op, inputs[0]).is_some()).then_some(Layout::ChannelsLast)
        }
        // Sums of windows are int32.
        Op::AvgPool2d(op) => (op.kernel[0] * op.kernel[1] < 1 << 23).then_some(Layout::ChannelsLast),
        Op::Linear(_) | Op::Transpose(_) => Some(Layout::RowMajor),
        Op::MatMul(_) => (SumRule::mat_mul(rules, CodeType::Int8, inputs[1]) != SumRule::RealSum).then_some(Layout::RowMajor),
        Op::Add(_) | Op::Sub(_) | Op::Mul(_) => Some(Layout::Either),
        Op::Clamp(_) | Op::Unary(_) | Op::Requantize | Op::Concat(_) | Op::Pad(_) | Op::Slice(_) => Some(Layout::Either),
        _ => None,
    }
}

/// Whether an operation takes its operands code by code, so that those of other shapes have to be stretched to the result's.
pub(crate) fn stretches(op: &Op) -> bool {
    matches!(op, Op::Add(_) | Op::Sub(_) | Op::Mul(_))
}

/// Repeats an operand along the axes where its size is 1.
pub(crate) fn stretch(info: &ValueInfo, y: &ValueInfo, channels_last: bool) -> Kernel {
    let (from, to) = (memory_order(&info.shape, channels_last), memory_order(&y.shape, channels_last));
    let steps = strides(&from).into_iter().zip(&from).map(|(stride, &size)| if size == 1 { 0 } else { stride });
    let steps: Vec<usize> = steps.collect();
    Kernel::Moves { moves: vec![Strided::new(&to, &steps, &strides(&to), [0, 0])], fill: None }
}

/// The axes in the order in which they stand in memory.
fn memory_order(list: &[usize], channels_last: bool) -> Vec<usize> {
    match list {
        &[c, h, w] if channels_last => vec![h, w, c],
        other => other.to_vec(),
    }
}

impl Kernel {
    /// Prepares a node for which [`layout`] has a fast form; `channels_last` says how its images stand.
    pub(crate) fn new(level: Level, rules: Rules, op: &Op, inputs: &[&ValueInfo], y: &ValueInfo, channels_last: bool) -> Self {
        let (x, order) = (inputs[0], |list: &[usize]| memory_order(list, channels_last));
        let one = |moves: Strided| Self::Moves { moves: vec![moves], fill: None };
        let (x_shape, y_shape) = (order(&x.shape), order(&y.shape));
        let (from, to) = (strides(&x_shape), strides(&y_shape));
        let offset = |start: &[usize], strides: &[usize]| start.iter().zip(strides).map(|(start, stride)| start * stride).sum();
        match op {
            Op::Conv2d(op) if Depthwise::takes(op) => Self::Depthwise(Box::new(Depthwise::new(rules, op, x, y))),
            Op::Conv2d(op) => Self::Conv2d(Box::new(Conv2d::new(level, rules, op, x, y))),
            Op::ConvTranspose2d(op) => Self::Conv2d(Box::new(Conv2d::transposed(level, rules, op, x, y))),
            Op::Linear(op) => Self::Linear(Box::new(Linear::new(level, rules, op, x, y))),
            // A first operand that stretches may change places with the second: see `reference::add`.
            Op::Add(op) if rules == Rules::OnnxRuntime && x.shape == y.shape => Self::Add(Add::new(*op, x, inputs[1], y)),
            Op::Add(_) | Op::Sub(_) | Op::Mul(_) => Self::Binary(Binary::new(rules, op, x, inputs[1], y)),
            Op::MatMul(op) => Self::MatMul(MatMul::new(rules, *op, x, inputs[1], y)),
            Op::MaxPool2d(op) => Self::MaxPool2d(MaxPool2d::new(op, x, y)),
            Op::AvgPool2d(op) => Self::AvgPool2d(AvgPool2d::new(rules, op, x, y)),
            Op::Clamp(Clamp { min, max }) => Self::Clamp { min: *min as i8, max: *max as i8 },
            Op::Unary(_) | Op::Requantize => Self::Table(table(rules, op, x, y)),
            Op::Concat(op) => {
                let axis = if channels_last { (op.axis + 2) % 3 } else { op.axis };
                let mut start = 0;
                let moves = inputs.iter().map(|input| {
                    let shape = order(&input.shape);
                    let moves = Strided::new(&shape, &strides(&shape), &to, [0, start * to[axis]]);
                    start += shape[axis];
                    moves
                });
                Self::Moves { moves: moves.collect(), fill: None }
            }
            Op::Pad(op) => {
                let moves = vec![Strided::new(&x_shape, &from, &to, [0, offset(&order(&op.before), &to)])];
                Self::Moves { moves, fill: Some(x.qparams.zero_point as i8) }
            }
            Op::Slice(op) => {
                let step = order(&op.step);
                let stepped: Vec<usize> = from.iter().zip(&step).map(|(stride, step)| stride * step).collect();
                one(Strided::new(&y_shape, &stepped, &to, [offset(&order(&op.start), &from), 0]))
            }
            Op::Transpose(op) => {
                let moved: Vec<usize> = op.permutation.iter().map(|&axis| from[axis]).collect();
                one(Strided::new(&y_shape, &moved, &to, [0, 0]))
            }
            Op::ResizeNearest(op) => {
                let ([c, h, w], [down, across]) = (image_shape(x), op.factor);
                let (from, to) = ([w * c, 0, c, 0, 1], [down * w * across * c, w * across * c, across * c, c, 1]);
                one(Strided::new(&[h, down, w, across, c], &from, &to, [0, 0]))
            }
            other => unreachable!("{} has no fast form", other.kind()),
        }
    }

    /// Whether the kernel turns its first operand, which stands where the result goes, into the result.
    pub(crate) fn overwrites(&self) -> bool {
        matches!(self, Self::Add(_) | Self::Binary(_) | Self::Clamp { .. } | Self::Table(_))
    }

    /// The scratch that so many samples at once need.
    pub(crate) fn scratch(&self, level: Level, samples: usize) -> ScratchSize {
        match self {
            Self::Conv2d(conv) => conv.scratch(level),
            Self::Depthwise(conv) => conv.scratch(level),
            Self::Linear(linear) => linear.scratch(level, samples),
            Self::MaxPool2d(pool) => pool.scratch(),
            Self::AvgPool2d(pool) => pool.scratch(),
            Self::MatMul(product) => product.scratch(),
            Self::Add(_) | Self::Binary(_) | Self::Clamp { .. } | Self::Table(_) | Self::Moves { .. } => ScratchSize::default(),
        }
    }

    /// Rows of the result and codes of a row, where several threads gain by computing a share of the rows each.
    #[cfg(feature = "threads")]
    pub(crate) fn rows_worth_sharing(&self) -> Option<[usize; 2]> {
        match self {
            Self::Conv2d(conv) => {
                let [rows, length, products] = conv.rows();
                (products >= SHARED_PRODUCTS).then_some([rows, length])
            }
            _ => None,
        }
    }

    /// Computes some rows of one sample, where [rows are worth sharing](Self::rows_worth_sharing); `y` is those rows.
    #[cfg(feature = "threads")]
    pub(crate) fn compute_rows(
        &self,
        level: Level,
        scratch: &mut Scratch,
        rows: core::ops::Range<usize>,
        x: &[i8],
        y: &mut [i8],
    ) {
        match self {
            Self::Conv2d(conv) => conv.compute_rows(level, scratch, rows, x, y),
            other => unreachable!("rows of {other:?} are not shared"),
        }
    }

    /// Bytes allocated for constants.
    pub(crate) fn allocated(&self) -> usize {
        match self {
            Self::Conv2d(conv) => conv.allocated(),
            Self::Depthwise(conv) => conv.allocated(),
            Self::Linear(linear) => linear.allocated(),
            Self::Binary(binary) => binary.allocated(),
            Self::Table(_) => 256,
            Self::Moves { moves, .. } => moves.capacity() * size_of::<Strided>(),
            Self::Add(_) | Self::MatMul(_) | Self::MaxPool2d(_) | Self::AvgPool2d(_) | Self::Clamp { .. } => 0,
        }
    }

    /// Computes so many samples. `input` gives the codes of an operand; where the kernel
    /// [overwrites](Self::overwrites) the first one, that stands in `y`.
    pub(crate) fn compute<'a>(
        &self,
        level: Level,
        scratch: &mut Scratch,
        samples: usize,
        input: impl Fn(usize) -> &'a [i8],
        y: &mut [i8],
    ) {
        match self {
            Self::Conv2d(conv) => each(input(0), y, samples, |x, y| conv.compute(level, scratch, x, y)),
            Self::Depthwise(conv) => each(input(0), y, samples, |x, y| conv.compute(level, scratch, x, y)),
            Self::MaxPool2d(pool) => each(input(0), y, samples, |x, y| pool.compute(level, scratch, x, y)),
            Self::AvgPool2d(pool) => each(input(0), y, samples, |x, y| pool.compute(level, scratch, x, y)),
            Self::Linear(linear) => linear.compute(level, scratch, input(0), y),
            Self::Add(add) => add.compute(level, input(1), y),
            Self::Binary(binary) => binary.compute(level, input(1), y),
            Self::MatMul(product) => product.compute(level, scratch, input(0), input(1), y),
            Self::Clamp { min, max } => level.run(|| confine(*min, *max, y)),
            Self::Table(table) => y.iter_mut().for_each(|code| *code = table[usize::from(code.cast_unsigned() ^ 0x80)]),
            Self::Moves { moves, fill } => {
                if let Some(fill) = fill {
                    y.fill(*fill);
                }
                for (operand, moves) in moves.iter().enumerate() {
                    each(input(operand), y, samples, |x, y| moves.compute(x, y));
                }
            }
        }
    }
}

/// Calls `compute` with the codes of each sample.
fn each(x: &[i8], y: &mut [i8], samples: usize, mut compute: impl FnMut(&[i8], &mut [i8])) {
    for (x, y) in x.chunks_exact(x.len() / samples).zip(y.chunks_exact_mut(y.len() / samples)) {
        compute(x, y);
    }
}

#[inline(always)]
fn confine(min: i8, max: i8, codes: &mut [i8]) {
    for code in codes {
        *code = (*code).max(min).min(max);
    }
}

/// What the reference makes of every code, for operations that look at one code at a time.
fn table(rules: Rules, op: &Op, x: &ValueInfo, y: &ValueInfo) -> Box<[i8; 256]> {
    let all = |info: &ValueInfo| ValueInfo { shape: vec![256], ..info.clone() };
    let (x, y) = (all(x), all(y));
    let codes: Vec<i8> = (i8::MIN..=i8::MAX).collect();
    let mut table = Box::new([0; 256]);
    let operand = Operand { codes: CodesRef::Int8(&codes), info: &x };
    reference::compute(rules, op, &[operand], &mut Output { codes: CodesMut::Int8(table.as_mut_slice()), info: &y });
    table
}
