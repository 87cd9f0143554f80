//! The option tables of builtin operators (`BuiltinOptions` of the schema): their numbers, slots and defaults, in one list.
//!
//! A field that holds its default is not written, and one that is not in a file reads as its default.

use flatbuffers::{FlatBufferBuilder, TableFinishedWIPOffset, WIPOffset};

use super::flatbuffer::{Table, slot_offset};
use super::read::ReadError;
use super::schema::{ActivationFunctionType, LstmKernelType, MirrorPadMode, Padding, TensorType, WeightsFormat};

/// Declares the structs of option tables that have fields, and [`BuiltinOptions`] over all tables with their numbers.
macro_rules! builtin_options {
    (
        tables { $($(#[$doc:meta])* $number:literal $variant:ident($name:ident) {
            $($(#[$field_doc:meta])* $slot:literal $field:ident: $type:ty = $default:expr,)*
        })* }
        empty { $($(#[$empty_doc:meta])* $empty_number:literal $empty_variant:ident,)* }
    ) => {
        /// The options of a builtin operator. Which ones an operator takes is for its reader to know.
        #[derive(Clone, Debug, Default, PartialEq)]
        pub enum BuiltinOptions {
            /// The operator says nothing.
            #[default]
            None,
            $($(#[$doc])* $variant($name),)*
            $($(#[$empty_doc])* $empty_variant,)*
            /// Options that are in the file and not held here: a table that this list does not know, or one with a field that
            /// this list does not know. Not `None`: what the operator computes is then unknown.
            Unread {
                /// Number of the table in the schema's `BuiltinOptions`.
                table: u8,
                /// Slots of the fields that are set beyond those known here; empty for an unknown table.
                slots: Vec<u16>,
            },
        }

        $(
            $(#[$doc])*
            #[derive(Clone, Debug, PartialEq)]
            pub struct $name {
                $($(#[$field_doc])* pub $field: $type,)*
            }

            impl Default for $name {
                /// The schema's defaults.
                fn default() -> Self {
                    Self { $($field: $default,)* }
                }
            }

            impl From<$name> for BuiltinOptions {
                fn from(options: $name) -> Self {
                    Self::$variant(options)
                }
            }
        )*

        impl BuiltinOptions {
            /// The options in `table`, whose number in the schema is `number`.
            pub(super) fn read(number: u8, table: &Table) -> Result<Self, ReadError> {
                let known: &[u16] = match number {
                    $($number => &[$($slot),*],)*
                    $($empty_number => &[],)*
                    _ => return Ok(Self::Unread { table: number, slots: Vec::new() }),
                };
                let slots = table.unread(known)?;
                if !slots.is_empty() {
                    return Ok(Self::Unread { table: number, slots });
                }
                Ok(match number {
                    $($number => Self::$variant($name {
                        $($field: Field::read(table, $slot, stringify!($field), $default)?,)*
                    }),)*
                    $($empty_number => Self::$empty_variant,)*
                    _ => Self::Unread { table: number, slots },
                })
            }

            /// Number of the table in the schema and the table; `None` where there is nothing to write, and for `Unread`.
            pub(super) fn write(&self, builder: &mut FlatBufferBuilder) -> Option<(u8, WIPOffset<TableFinishedWIPOffset>)> {
                match self {
                    Self::None | Self::Unread { .. } => None,
                    $(Self::$variant(options) => {
                        $(let $field = options.$field.ready(builder);)*
                        let table = builder.start_table();
                        $(options.$field.push(builder, $slot, $field, $default);)*
                        Some(($number, builder.end_table(table)))
                    })*
                    $(Self::$empty_variant => {
                        let table = builder.start_table();
                        Some(($empty_number, builder.end_table(table)))
                    })*
                }
            }
        }
    };
}

builtin_options! {
    tables {
        /// Of a two-dimensional convolution.
        1 Conv2D(Conv2DOptions) {
            /// How the window meets the border.
            0 padding: Padding = Padding::SAME,
            /// Step between columns.
            1 stride_w: i32 = 0,
            /// Step between rows.
            2 stride_h: i32 = 0,
            /// Applied to the result.
            3 fused_activation_function: ActivationFunctionType = ActivationFunctionType::NONE,
            /// Distance of a window's columns.
            4 dilation_w_factor: i32 = 1,
            /// Distance of a window's rows.
            5 dilation_h_factor: i32 = 1,
            /// Type of the bias of a quantized operator; `FLOAT32` where nothing is said.
            6 quantized_bias_type: TensorType = TensorType::FLOAT32,
        }
        /// Of a convolution of each channel by itself.
        2 DepthwiseConv2D(DepthwiseConv2DOptions) {
            /// How the window meets the border.
            0 padding: Padding = Padding::SAME,
            /// Step between columns.
            1 stride_w: i32 = 0,
            /// Step between rows.
            2 stride_h: i32 = 0,
            /// Output channels for each input channel; follows from the shapes as well.
            3 depth_multiplier: i32 = 0,
            /// Applied to the result.
            4 fused_activation_function: ActivationFunctionType = ActivationFunctionType::NONE,
            /// Distance of a window's columns.
            5 dilation_w_factor: i32 = 1,
            /// Distance of a window's rows.
            6 dilation_h_factor: i32 = 1,
        }
        /// Of a pooling operator.
        5 Pool2D(Pool2DOptions) {
            /// How the window meets the border.
            0 padding: Padding = Padding::SAME,
            /// Step between columns.
            1 stride_w: i32 = 0,
            /// Step between rows.
            2 stride_h: i32 = 0,
            /// Columns of the window.
            3 filter_width: i32 = 0,
            /// Rows of the window.
            4 filter_height: i32 = 0,
            /// Applied to the result.
            5 fused_activation_function: ActivationFunctionType = ActivationFunctionType::NONE,
        }
        /// Of a fully connected operator.
        8 FullyConnected(FullyConnectedOptions) {
            /// Applied to the result.
            0 fused_activation_function: ActivationFunctionType = ActivationFunctionType::NONE,
            /// Layout of the weights.
            1 weights_format: WeightsFormat = WeightsFormat::DEFAULT,
            /// The output has as many dimensions as the input.
            2 keep_num_dims: bool = false,
            /// With float activations and integer weights: inputs are quantized with a zero point.
            3 asymmetric_quantize_inputs: bool = false,
            /// Type of the bias of a quantized operator; `FLOAT32` where nothing is said.
            4 quantized_bias_type: TensorType = TensorType::FLOAT32,
        }
        /// Of a softmax.
        9 Softmax(SoftmaxOptions) {
            /// What inputs are multiplied by.
            0 beta: f32 = 0.0,
        }
        /// Of a concatenation.
        10 Concatenation(ConcatenationOptions) {
            /// The dimension along which; negative counts from the last.
            0 axis: i32 = 0,
            /// Applied to the result.
            1 fused_activation_function: ActivationFunctionType = ActivationFunctionType::NONE,
        }
        /// Of an addition.
        11 Add(AddOptions) {
            /// Applied to the result.
            0 fused_activation_function: ActivationFunctionType = ActivationFunctionType::NONE,
            /// With 16-bit codes: all scales are powers of two.
            1 pot_scale_int16: bool = true,
        }
        /// Of a normalization to length one.
        12 L2Norm(L2NormOptions) {
            /// Applied to the result.
            0 fused_activation_function: ActivationFunctionType = ActivationFunctionType::NONE,
        }
        /// Of a step of an LSTM.
        14 Lstm(LstmOptions) {
            /// The activation of the cell.
            0 fused_activation_function: ActivationFunctionType = ActivationFunctionType::NONE,
            /// The cell state stays in ±`cell_clip`; 0 for no limit.
            1 cell_clip: f32 = 0.0,
            /// The projection stays in ±`proj_clip`; 0 for no limit.
            2 proj_clip: f32 = 0.0,
            /// Which inputs there are.
            3 kernel_type: LstmKernelType = LstmKernelType::FULL,
            /// With float activations and integer weights: inputs are quantized with a zero point.
            4 asymmetric_quantize_inputs: bool = false,
        }
        /// Of a bilinear resize.
        15 ResizeBilinear(ResizeBilinearOptions) {
            /// Deprecated; the operator's second input counts.
            0 new_height: i32 = 0,
            /// Deprecated; the operator's second input counts.
            1 new_width: i32 = 0,
            /// Corner pixels lie on each other.
            2 align_corners: bool = false,
            /// Pixels are areas, not points.
            3 half_pixel_centers: bool = false,
        }
        /// Of a change of shape.
        17 Reshape(ReshapeOptions) {
            /// The new shape, where it is no input; one size may be −1.
            0 new_shape: Vec<i32> = Vec::new(),
        }
        /// Of a move of blocks of pixels into channels.
        19 SpaceToDepth(SpaceToDepthOptions) {
            /// Side of a block.
            0 block_size: i32 = 0,
        }
        /// Of a multiplication.
        21 Mul(MulOptions) {
            /// Applied to the result.
            0 fused_activation_function: ActivationFunctionType = ActivationFunctionType::NONE,
        }
        /// Of a look-up of slices.
        23 Gather(GatherOptions) {
            /// The dimension that indices refer to.
            0 axis: i32 = 0,
            /// Leading dimensions that values and indices share.
            1 batch_dims: i32 = 0,
        }
        /// Of a reduction.
        27 Reducer(ReducerOptions) {
            /// Reduced dimensions stay, with size 1.
            0 keep_dims: bool = false,
        }
        /// Of a subtraction.
        28 Sub(SubOptions) {
            /// Applied to the result.
            0 fused_activation_function: ActivationFunctionType = ActivationFunctionType::NONE,
            /// With 16-bit codes: all scales are powers of two.
            1 pot_scale_int16: bool = true,
        }
        /// Of a division.
        29 Div(DivOptions) {
            /// Applied to the result.
            0 fused_activation_function: ActivationFunctionType = ActivationFunctionType::NONE,
        }
        /// Of a removal of dimensions of size 1.
        30 Squeeze(SqueezeOptions) {
            /// Which; empty for all.
            0 squeeze_dims: Vec<i32> = Vec::new(),
        }
        /// Of a slice with steps. Bit `i` of a mask speaks of entry `i` of the operator's inputs.
        32 StridedSlice(StridedSliceOptions) {
            /// The entry of `begin` is ignored: from the start.
            0 begin_mask: i32 = 0,
            /// The entry of `end` is ignored: to the end.
            1 end_mask: i32 = 0,
            /// The entry stands for all dimensions that no other speaks of.
            2 ellipsis_mask: i32 = 0,
            /// The entry makes a new dimension of size 1.
            3 new_axis_mask: i32 = 0,
            /// The dimension is dropped.
            4 shrink_axis_mask: i32 = 0,
            /// `end` counts from `begin`.
            5 offset: bool = false,
        }
        /// Of a split into equal parts.
        35 Split(SplitOptions) {
            /// How many.
            0 num_splits: i32 = 0,
        }
        /// Of a change of element type.
        37 Cast(CastOptions) {
            /// From.
            0 in_data_type: TensorType = TensorType::FLOAT32,
            /// To.
            1 out_data_type: TensorType = TensorType::FLOAT32,
        }
        /// Of a search for the greatest element.
        40 ArgMax(ArgMaxOptions) {
            /// Type of the index.
            0 output_type: TensorType = TensorType::FLOAT32,
        }
        /// Of a transposed convolution.
        49 TransposeConv(TransposeConvOptions) {
            /// How the window meets the border of the output.
            0 padding: Padding = Padding::SAME,
            /// Step between columns of the output.
            1 stride_w: i32 = 0,
            /// Step between rows of the output.
            2 stride_h: i32 = 0,
            /// Applied to the result.
            3 fused_activation_function: ActivationFunctionType = ActivationFunctionType::NONE,
            /// Type of the bias of a quantized operator; `FLOAT32` where nothing is said.
            4 quantized_bias_type: TensorType = TensorType::FLOAT32,
        }
        /// Of a query for a shape.
        55 Shape(ShapeOptions) {
            /// Type of the sizes; `FLOAT32` where nothing is said, which means `INT32`.
            0 out_type: TensorType = TensorType::FLOAT32,
        }
        /// Of a search for the least element.
        57 ArgMin(ArgMinOptions) {
            /// Type of the index.
            0 output_type: TensorType = TensorType::FLOAT32,
        }
        /// Of a fake quantization.
        58 FakeQuant(FakeQuantOptions) {
            /// Lowest real value.
            0 min: f32 = 0.0,
            /// Highest real value.
            1 max: f32 = 0.0,
            /// Bits of the codes.
            2 num_bits: i32 = 0,
            /// The lowest code is not used.
            3 narrow_range: bool = false,
        }
        /// Of a stacking along a new dimension.
        59 Pack(PackOptions) {
            /// Number of inputs.
            0 values_count: i32 = 0,
            /// The new dimension.
            1 axis: i32 = 0,
        }
        /// Of a taking apart along a dimension, which vanishes.
        64 Unpack(UnpackOptions) {
            /// Number of outputs.
            0 num: i32 = 0,
            /// The dimension.
            1 axis: i32 = 0,
        }
        /// Of an LSTM over a sequence.
        71 UnidirectionalSequenceLstm(UnidirectionalSequenceLstmOptions) {
            /// The activation of the cell.
            0 fused_activation_function: ActivationFunctionType = ActivationFunctionType::NONE,
            /// The cell state stays in ±`cell_clip`; 0 for no limit.
            1 cell_clip: f32 = 0.0,
            /// The projection stays in ±`proj_clip`; 0 for no limit.
            2 proj_clip: f32 = 0.0,
            /// Time is the first dimension, else the second.
            3 time_major: bool = false,
            /// With float activations and integer weights: inputs are quantized with a zero point.
            4 asymmetric_quantize_inputs: bool = false,
            /// Recurrent weights are diagonals.
            5 diagonal_recurrent_tensors: bool = false,
        }
        /// Of a nearest-neighbour resize.
        74 ResizeNearestNeighbor(ResizeNearestNeighborOptions) {
            /// Corner pixels lie on each other.
            0 align_corners: bool = false,
            /// Pixels are areas, not points.
            1 half_pixel_centers: bool = false,
        }
        /// Of a leaky rectifier.
        75 LeakyRelu(LeakyReluOptions) {
            /// Slope below zero.
            0 alpha: f32 = 0.0,
        }
        /// Of a padding with what lies inside the border.
        77 MirrorPad(MirrorPadOptions) {
            /// Whether the outermost element is repeated.
            0 mode: MirrorPadMode = MirrorPadMode::REFLECT,
        }
        /// Of a split into parts of given sizes.
        79 SplitV(SplitVOptions) {
            /// How many.
            0 num_splits: i32 = 0,
        }
        /// Of a move of channels into blocks of pixels.
        94 DepthToSpace(DepthToSpaceOptions) {
            /// Side of a block.
            0 block_size: i32 = 0,
        }
        /// Of a product of matrices.
        101 BatchMatMul(BatchMatMulOptions) {
            /// The left matrices are transposed.
            0 adj_x: bool = false,
            /// The right matrices are transposed.
            1 adj_y: bool = false,
            /// With float activations and integer weights: inputs are quantized with a zero point.
            2 asymmetric_quantize_inputs: bool = false,
        }
        /// Of a running sum.
        102 Cumsum(CumsumOptions) {
            /// An element is not part of its own sum.
            0 exclusive: bool = false,
            /// From the last to the first.
            1 reverse: bool = false,
        }
        /// Of a Gaussian error linear unit.
        116 Gelu(GeluOptions) {
            /// By the hyperbolic tangent, not by the error function.
            0 approximate: bool = false,
        }
    }
    empty {
        /// Of a padding with zeros, without fields.
        22 Pad,
        /// Of a move of batches into pixels, without fields.
        24 BatchToSpaceNd,
        /// Of a move of pixels into batches, without fields.
        25 SpaceToBatchNd,
        /// Of a transpose, without fields.
        26 Transpose,
        /// Of an exponential, without fields.
        33 Exp,
        /// Of a selection of the greatest elements, without fields.
        34 TopKV2,
        /// Of the logarithm of a softmax, without fields.
        36 LogSoftmax,
        /// Of a dequantization, without fields.
        38 Dequantize,
        /// Of a maximum or minimum of two tensors, without fields.
        39 MaximumMinimum,
        /// Of a comparison, without fields.
        41 Less,
        /// Of a change of sign, without fields.
        42 Neg,
        /// Of a padding with a constant, without fields.
        43 PadV2,
        /// Of a comparison, without fields.
        44 Greater,
        /// Of a comparison, without fields.
        45 GreaterEqual,
        /// Of a comparison, without fields.
        46 LessEqual,
        /// Of a choice between two tensors, without fields.
        47 Select,
        /// Of a slice, without fields.
        48 Slice,
        /// Of a repetition, without fields.
        51 Tile,
        /// Of a new dimension of size 1, without fields.
        52 ExpandDims,
        /// Of a comparison, without fields.
        53 Equal,
        /// Of a comparison, without fields.
        54 NotEqual,
        /// Of a power, without fields.
        56 Pow,
        /// Of a logical or, without fields.
        60 LogicalOr,
        /// Of a logical and, without fields.
        62 LogicalAnd,
        /// Of a logical not, without fields.
        63 LogicalNot,
        /// Of a division rounded down, without fields.
        65 FloorDiv,
        /// Of a square, without fields.
        66 Square,
        /// Of a tensor of zeros, without fields.
        67 ZerosLike,
        /// Of a tensor of one value, without fields.
        68 Fill,
        /// Of a remainder, without fields.
        72 FloorMod,
        /// Of a sequence of numbers, without fields.
        73 Range,
        /// Of a squared difference, without fields.
        76 SquaredDifference,
        /// Of an absolute value, without fields.
        78 Abs,
        /// Of a reversal, without fields.
        81 ReverseV2,
        /// Of a sum of several tensors, without fields.
        82 AddN,
        /// Of a look-up by several indices, without fields.
        83 GatherNd,
        /// Of a cosine, without fields.
        84 Cos,
        /// Of a search for true elements, without fields.
        85 Where,
        /// Of a query for the number of dimensions, without fields.
        86 Rank,
        /// Of a quantization, without fields.
        89 Quantize,
        /// Of a hard swish, without fields.
        91 HardSwish,
        /// Of a choice between two tensors with broadcasting, without fields.
        98 SelectV2,
        /// Of a broadcast, without fields.
        104 BroadcastTo,
    }
}

/// What an option may be.
trait Field: Sized {
    /// Where a value that lies outside its table has been written.
    type Ready;

    /// The value in `slot`, or the default.
    fn read(table: &Table, slot: u16, name: &'static str, default: Self) -> Result<Self, ReadError>;

    /// Writes what lies outside the table.
    fn ready(&self, builder: &mut FlatBufferBuilder) -> Self::Ready;

    /// Writes the field of the table that has been begun, unless it is the default.
    fn push(&self, builder: &mut FlatBufferBuilder, slot: u16, ready: Self::Ready, default: Self);
}

/// Implements [`Field`] for numbers, and for enumerations by their number.
macro_rules! number_field {
    ($($type:ty: $number:ty, $from:expr, $to:expr;)*) => {$(
        impl Field for $type {
            type Ready = ();

            fn read(table: &Table, slot: u16, name: &'static str, default: Self) -> Result<Self, ReadError> {
                Ok(table.scalar(slot, name)?.map_or(default, |bytes| $from(<$number>::from_le_bytes(bytes))))
            }

            fn ready(&self, _: &mut FlatBufferBuilder) {}

            fn push(&self, builder: &mut FlatBufferBuilder, slot: u16, (): (), default: Self) {
                builder.push_slot::<$number>(slot_offset(slot), $to(self), $to(&default));
            }
        }
    )*};
}

number_field! {
    i32: i32, |number| number, |value: &i32| *value;
    f32: f32, |number| number, |value: &f32| *value;
    bool: u8, |number| number != 0, |value: &bool| u8::from(*value);
    Padding: i8, Padding, |value: &Padding| value.0;
    ActivationFunctionType: i8, ActivationFunctionType, |value: &ActivationFunctionType| value.0;
    WeightsFormat: i8, WeightsFormat, |value: &WeightsFormat| value.0;
    LstmKernelType: i8, LstmKernelType, |value: &LstmKernelType| value.0;
    MirrorPadMode: i8, MirrorPadMode, |value: &MirrorPadMode| value.0;
    TensorType: i8, TensorType, |value: &TensorType| value.0;
}

impl Field for Vec<i32> {
    type Ready = Option<u32>;

    fn read(table: &Table, slot: u16, name: &'static str, _: Self) -> Result<Self, ReadError> {
        table.numbers(slot, name, i32::from_le_bytes)
    }

    fn ready(&self, builder: &mut FlatBufferBuilder) -> Option<u32> {
        (!self.is_empty()).then(|| builder.create_vector(self).value())
    }

    fn push(&self, builder: &mut FlatBufferBuilder, slot: u16, ready: Option<u32>, _: Self) {
        if let Some(offset) = ready {
            builder.push_slot_always(slot_offset(slot), WIPOffset::<()>::new(offset));
        }
    }
}
