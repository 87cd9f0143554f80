//! The tables of `tflite/schema.fbs`, schema version 3, under its field names.
//!
//! Absent lists and texts read as empty ones, absent numbers as the schema's default. Enumerations are open: a number without a
//! name is kept. Where a file holds a field that these structs do not, its slot stands in `unread`, so that nothing is lost
//! without a trace; [`write()`](super::write()) refuses such a table rather than drop the field.

use crate::elements::{bf16_to_f32, f16_to_f32, packed_signed, packed_unsigned};

use super::options::BuiltinOptions;

/// An enumeration of the schema as its number, with the names that the schema gives.
macro_rules! open_enum {
    ($(#[$doc:meta])* $name:ident($number:ty) { $($variant:ident = $value:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub $number);

        impl $name {
            $(
                #[doc = concat!("The schema's `", stringify!($variant), "`, ", stringify!($value), ".")]
                pub const $variant: Self = Self($value);
            )*

            /// The schema's name; `None` for a number that has none here.
            pub fn name(self) -> Option<&'static str> {
                match self {
                    $(Self::$variant => Some(stringify!($variant)),)*
                    _ => None,
                }
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                match self.name() {
                    Some(name) => f.write_str(name),
                    None => write!(f, concat!(stringify!($name), "({})"), self.0),
                }
            }
        }
    };
}

/// A file: what is computed, and the bytes of its constants (`Model`).
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    /// Version of the schema, 3.
    pub version: u32,
    /// The operators in use; an [`Operator`] names one by its index here.
    pub operator_codes: Vec<OperatorCode>,
    /// The first is the one that is run; others are called by operators.
    pub subgraphs: Vec<SubGraph>,
    /// For people.
    pub description: String,
    /// Bytes of constants and of metadata. The first is empty: tensors without bytes refer to it.
    pub buffers: Vec<Buffer>,
    /// Indices into `buffers`; a forerunner of `metadata`.
    pub metadata_buffer: Vec<i32>,
    /// Named bytes beside the graph.
    pub metadata: Vec<Metadata>,
    /// Names for the inputs and outputs of subgraphs.
    pub signature_defs: Vec<SignatureDef>,
    /// Slots of fields in the file that are not held here.
    pub unread: Vec<u16>,
}

impl Default for Model {
    /// A file of version 3 with the empty first buffer and nothing else.
    fn default() -> Self {
        Self {
            version: 3,
            operator_codes: Vec::new(),
            subgraphs: Vec::new(),
            description: String::new(),
            buffers: vec![Buffer::default()],
            metadata_buffer: Vec::new(),
            metadata: Vec::new(),
            signature_defs: Vec::new(),
            unread: Vec::new(),
        }
    }
}

impl Model {
    /// Index of an operator code, added if the model has no equal one yet.
    pub fn intern_operator(&mut self, code: OperatorCode) -> u32 {
        let index = self.operator_codes.iter().position(|known| *known == code).unwrap_or_else(|| {
            self.operator_codes.push(code);
            self.operator_codes.len() - 1
        });
        index as u32
    }

    /// Index of a new buffer that holds `data`, for [`Tensor::buffer`].
    pub fn add_buffer(&mut self, data: Vec<u8>) -> u32 {
        self.buffers.push(Buffer { data, unread: Vec::new() });
        (self.buffers.len() - 1) as u32
    }

    /// The bytes of a constant tensor; empty for a tensor that is computed or has no elements.
    pub fn data(&self, tensor: &Tensor) -> &[u8] {
        self.buffers.get(tensor.buffer as usize).map_or(&[], |buffer| &buffer.data)
    }

    /// What an operator of one of the subgraphs is; `None` for an operator of another model.
    pub fn operator_code(&self, operator: &Operator) -> Option<&OperatorCode> {
        self.operator_codes.get(operator.opcode_index as usize)
    }
}

/// Which operator, in which version (`OperatorCode`).
///
/// The schema has two fields for the number; the greater one counts, which is how runtimes read it. Both are written.
#[derive(Clone, Debug, PartialEq)]
pub struct OperatorCode {
    /// The operator; [`BuiltinOperator::CUSTOM`] for one that has a name instead.
    pub builtin_code: BuiltinOperator,
    /// Name of a custom operator, else empty.
    pub custom_code: String,
    /// Which of its options and types the operator uses; from 1.
    pub version: i32,
    /// Slots of fields in the file that are not held here.
    pub unread: Vec<u16>,
}

impl OperatorCode {
    /// A builtin operator.
    pub fn builtin(builtin_code: BuiltinOperator, version: i32) -> Self {
        Self { builtin_code, custom_code: String::new(), version, unread: Vec::new() }
    }
}

/// Operators in execution order and the tensors they work on (`SubGraph`).
#[derive(Clone, Debug, PartialEq)]
pub struct SubGraph {
    /// All tensors; everything else refers to them by index.
    pub tensors: Vec<Tensor>,
    /// Indices of the tensors that the caller supplies.
    pub inputs: Vec<i32>,
    /// Indices of the tensors that the caller receives.
    pub outputs: Vec<i32>,
    /// Each stands after those that define its inputs.
    pub operators: Vec<Operator>,
    /// For people.
    pub name: String,
    /// Where the tool that wrote the file keeps what it knows of this subgraph; −1 for nowhere.
    pub debug_metadata_index: i32,
    /// Slots of fields in the file that are not held here.
    pub unread: Vec<u16>,
}

impl Default for SubGraph {
    fn default() -> Self {
        Self {
            tensors: Vec::new(),
            inputs: Vec::new(),
            outputs: Vec::new(),
            operators: Vec::new(),
            name: String::new(),
            debug_metadata_index: -1,
            unread: Vec::new(),
        }
    }
}

/// A value: a constant, an input or what an operator computes (`Tensor`).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tensor {
    /// Sizes, outermost first, none negative; empty for a scalar. A size that varies stands as 1 here.
    pub shape: Vec<i32>,
    /// What the elements are.
    pub r#type: TensorType,
    /// Index of the buffer with the elements; 0 for none.
    pub buffer: u32,
    /// For people; need not be unique.
    pub name: String,
    /// What a quantized tensor's codes stand for.
    pub quantization: Option<QuantizationParameters>,
    /// The tensor keeps its elements from one run to the next.
    pub is_variable: bool,
    /// `shape` with −1 for sizes that vary; empty where none does.
    pub shape_signature: Vec<i32>,
    /// The number of dimensions is known. Only meaningful where a reader of the file asks: most writers leave it false.
    pub has_rank: bool,
    /// Slots of fields in the file that are not held here, as in [`Tensor::SPARSITY`].
    pub unread: Vec<u16>,
}

impl Tensor {
    /// In `unread`: the elements are stored sparsely, so that the buffer's length does not follow from the shape.
    pub const SPARSITY: u16 = 6;
    /// In `unread`: types of what a [`TensorType::VARIANT`] holds.
    pub const VARIANT_TENSORS: u16 = 9;
    /// In `unread`: the elements are in another file.
    pub const EXTERNAL_BUFFER: u16 = 10;

    /// Number of elements, the product of `shape`; `None` if a size is negative or the product overflows.
    pub fn element_count(&self) -> Option<usize> {
        // A zero anywhere makes the tensor empty, whatever the other dimensions multiply to.
        let dims = self.shape.iter().map(|&dim| usize::try_from(dim).ok()).collect::<Option<Vec<_>>>()?;
        if dims.contains(&0) {
            return Some(0);
        }
        dims.into_iter().try_fold(1, usize::checked_mul)
    }

    /// Bytes that the elements take; `None` for types whose elements vary in length and for shapes that have no element count.
    pub fn byte_count(&self) -> Option<usize> {
        Some(self.element_count()?.checked_mul(self.r#type.bits()?)?.div_ceil(8))
    }

    /// Elements of a float tensor from its bytes, [`Model::data`]: `FLOAT32`, or `FLOAT16` and `BFLOAT16` widened exactly; `None`
    /// for other types.
    pub fn to_f32s(&self, data: &[u8]) -> Option<Vec<f32>> {
        let halves = || data.as_chunks().0.iter().map(|&bytes| u16::from_le_bytes(bytes));
        match self.r#type {
            TensorType::FLOAT32 => Some(data.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect()),
            TensorType::FLOAT16 => Some(halves().map(f16_to_f32).collect()),
            TensorType::BFLOAT16 => Some(halves().map(bf16_to_f32).collect()),
            _ => None,
        }
    }

    /// Elements of an integer or `BOOL` tensor from its bytes, [`Model::data`], widened; `None` for other types and for a
    /// `UINT64` element beyond [`i64::MAX`].
    pub fn to_i64s(&self, data: &[u8]) -> Option<Vec<i64>> {
        let count = self.element_count()?;
        match self.r#type {
            TensorType::INT64 => Some(data.as_chunks().0.iter().map(|&bytes| i64::from_le_bytes(bytes)).collect()),
            TensorType::UINT64 => data.as_chunks().0.iter().map(|&bytes| u64::from_le_bytes(bytes).try_into().ok()).collect(),
            TensorType::INT32 => Some(data.as_chunks().0.iter().map(|&bytes| i32::from_le_bytes(bytes).into()).collect()),
            TensorType::UINT32 => Some(data.as_chunks().0.iter().map(|&bytes| u32::from_le_bytes(bytes).into()).collect()),
            TensorType::INT16 => Some(data.as_chunks().0.iter().map(|&bytes| i16::from_le_bytes(bytes).into()).collect()),
            TensorType::UINT16 => Some(data.as_chunks().0.iter().map(|&bytes| u16::from_le_bytes(bytes).into()).collect()),
            TensorType::INT8 => Some(data.iter().map(|&byte| byte.cast_signed().into()).collect()),
            TensorType::UINT8 | TensorType::BOOL => Some(data.iter().map(|&byte| byte.into()).collect()),
            TensorType::INT4 => Some(packed_signed(data, 4, count).map(i64::from).collect()),
            TensorType::UINT4 => Some(packed_unsigned(data, 4, count).map(i64::from).collect()),
            TensorType::INT2 => Some(packed_signed(data, 2, count).map(i64::from).collect()),
            _ => None,
        }
    }
}

open_enum! {
    /// What the elements of a tensor are (`TensorType`).
    TensorType(i8) {
        FLOAT32 = 0,
        FLOAT16 = 1,
        INT32 = 2,
        UINT8 = 3,
        INT64 = 4,
        STRING = 5,
        BOOL = 6,
        INT16 = 7,
        COMPLEX64 = 8,
        INT8 = 9,
        FLOAT64 = 10,
        COMPLEX128 = 11,
        UINT64 = 12,
        RESOURCE = 13,
        VARIANT = 14,
        UINT32 = 15,
        UINT16 = 16,
        INT4 = 17,
        BFLOAT16 = 18,
        INT2 = 19,
        UINT4 = 20,
        FLOAT8_E4M3FN = 21,
        FLOAT8_E5M2 = 22,
    }
}

impl TensorType {
    /// Bits an element takes in a buffer; `None` for text, handles and numbers without a name.
    pub fn bits(self) -> Option<usize> {
        match self {
            Self::INT2 => Some(2),
            Self::INT4 | Self::UINT4 => Some(4),
            Self::UINT8 | Self::INT8 | Self::BOOL | Self::FLOAT8_E4M3FN | Self::FLOAT8_E5M2 => Some(8),
            Self::FLOAT16 | Self::BFLOAT16 | Self::INT16 | Self::UINT16 => Some(16),
            Self::FLOAT32 | Self::INT32 | Self::UINT32 => Some(32),
            Self::INT64 | Self::UINT64 | Self::FLOAT64 | Self::COMPLEX64 => Some(64),
            Self::COMPLEX128 => Some(128),
            _ => None,
        }
    }
}

/// What the codes of a tensor stand for: `real = scale · (code − zero_point)` (`QuantizationParameters`).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct QuantizationParameters {
    /// Lowest real values; for training tools.
    pub min: Vec<f32>,
    /// Highest real values, as many as `min`.
    pub max: Vec<f32>,
    /// Steps, one, or one for each index of `quantized_dimension`; empty for a tensor that is not quantized.
    pub scale: Vec<f32>,
    /// Codes of zero, as many as `scale`, or empty where nothing is said.
    pub zero_point: Vec<i64>,
    /// Dimension of the shape that several scales run along.
    pub quantized_dimension: i32,
    /// Slots of fields in the file that are not held here, as in [`QuantizationParameters::DETAILS`].
    pub unread: Vec<u16>,
}

impl QuantizationParameters {
    /// In `unread`: another kind of quantization, which makes the fields held here void.
    pub const DETAILS: u16 = 5;
}

/// One application of an operator (`Operator`).
#[derive(Clone, Debug, PartialEq)]
pub struct Operator {
    /// Index into [`Model::operator_codes`].
    pub opcode_index: u32,
    /// Indices of tensors; −1 for an optional input left out.
    pub inputs: Vec<i32>,
    /// Indices of the tensors it defines.
    pub outputs: Vec<i32>,
    /// Named constants of a builtin operator.
    pub builtin_options: BuiltinOptions,
    /// Constants of a custom operator, in a format of its own.
    pub custom_options: Vec<u8>,
    /// Format of `custom_options`; 0 for FlexBuffers.
    pub custom_options_format: i8,
    /// For each input whether the operator changes it; empty where it changes none.
    pub mutating_variable_inputs: Vec<bool>,
    /// Indices of tensors that exist only inside the operator.
    pub intermediates: Vec<i32>,
    /// Where the tool that wrote the file keeps what it knows of this operator; −1 for nowhere.
    pub debug_metadata_index: i32,
    /// Slots of fields in the file that are not held here, as in [`Operator::BUILTIN_OPTIONS_2`].
    pub unread: Vec<u16>,
}

impl Default for Operator {
    fn default() -> Self {
        Self {
            opcode_index: 0,
            inputs: Vec::new(),
            outputs: Vec::new(),
            builtin_options: BuiltinOptions::None,
            custom_options: Vec::new(),
            custom_options_format: 0,
            mutating_variable_inputs: Vec::new(),
            intermediates: Vec::new(),
            debug_metadata_index: -1,
            unread: Vec::new(),
        }
    }
}

impl Operator {
    /// In `unread`: the options of a StableHLO operator.
    pub const BUILTIN_OPTIONS_2: u16 = 12;
}

/// Bytes (`Buffer`). Those that a file keeps behind its tables, as files over 2 GiB do, are held like any others.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Buffer {
    /// Little-endian elements; those narrower than a byte are packed from its lowest bits upwards.
    pub data: Vec<u8>,
    /// Slots of fields in the file that are not held here.
    pub unread: Vec<u16>,
}

/// Named bytes beside the graph (`Metadata`).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metadata {
    /// As in `min_runtime_version`.
    pub name: String,
    /// Index into [`Model::buffers`].
    pub buffer: u32,
    /// Slots of fields in the file that are not held here.
    pub unread: Vec<u16>,
}

/// Names for the inputs and outputs of a subgraph (`SignatureDef`).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SignatureDef {
    /// Names of inputs.
    pub inputs: Vec<TensorMap>,
    /// Names of outputs.
    pub outputs: Vec<TensorMap>,
    /// Name of the signature, as in `serving_default`; unique.
    pub signature_key: String,
    /// Index into [`Model::subgraphs`].
    pub subgraph_index: u32,
    /// Slots of fields in the file that are not held here.
    pub unread: Vec<u16>,
}

/// A name for a tensor (`TensorMap`).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TensorMap {
    /// The name; unique among the inputs or outputs of its signature.
    pub name: String,
    /// Index into the subgraph's tensors.
    pub tensor_index: u32,
    /// Slots of fields in the file that are not held here.
    pub unread: Vec<u16>,
}

open_enum! {
    /// How a window meets the border (`Padding`).
    Padding(i8) {
        SAME = 0,
        VALID = 1,
    }
}

open_enum! {
    /// What is applied to an operator's result before it is stored (`ActivationFunctionType`).
    ActivationFunctionType(i8) {
        NONE = 0,
        RELU = 1,
        RELU_N1_TO_1 = 2,
        RELU6 = 3,
        TANH = 4,
        SIGN_BIT = 5,
    }
}

open_enum! {
    /// Layout of a fully connected operator's weights (`FullyConnectedOptionsWeightsFormat`).
    WeightsFormat(i8) {
        DEFAULT = 0,
        SHUFFLED4X16INT8 = 1,
    }
}

open_enum! {
    /// Which inputs an LSTM operator has (`LSTMKernelType`).
    LstmKernelType(i8) {
        FULL = 0,
        BASIC = 1,
    }
}

open_enum! {
    /// Whether a mirrored border repeats the outermost element (`MirrorPadMode`).
    MirrorPadMode(i8) {
        REFLECT = 0,
        SYMMETRIC = 1,
    }
}

open_enum! {
    /// An operator of TFLite (`BuiltinOperator`).
    BuiltinOperator(i32) {
        ADD = 0,
        AVERAGE_POOL_2D = 1,
        CONCATENATION = 2,
        CONV_2D = 3,
        DEPTHWISE_CONV_2D = 4,
        DEPTH_TO_SPACE = 5,
        DEQUANTIZE = 6,
        EMBEDDING_LOOKUP = 7,
        FLOOR = 8,
        FULLY_CONNECTED = 9,
        HASHTABLE_LOOKUP = 10,
        L2_NORMALIZATION = 11,
        L2_POOL_2D = 12,
        LOCAL_RESPONSE_NORMALIZATION = 13,
        LOGISTIC = 14,
        LSH_PROJECTION = 15,
        LSTM = 16,
        MAX_POOL_2D = 17,
        MUL = 18,
        RELU = 19,
        RELU_N1_TO_1 = 20,
        RELU6 = 21,
        RESHAPE = 22,
        RESIZE_BILINEAR = 23,
        RNN = 24,
        SOFTMAX = 25,
        SPACE_TO_DEPTH = 26,
        SVDF = 27,
        TANH = 28,
        CONCAT_EMBEDDINGS = 29,
        SKIP_GRAM = 30,
        CALL = 31,
        CUSTOM = 32,
        EMBEDDING_LOOKUP_SPARSE = 33,
        PAD = 34,
        UNIDIRECTIONAL_SEQUENCE_RNN = 35,
        GATHER = 36,
        BATCH_TO_SPACE_ND = 37,
        SPACE_TO_BATCH_ND = 38,
        TRANSPOSE = 39,
        MEAN = 40,
        SUB = 41,
        DIV = 42,
        SQUEEZE = 43,
        UNIDIRECTIONAL_SEQUENCE_LSTM = 44,
        STRIDED_SLICE = 45,
        BIDIRECTIONAL_SEQUENCE_RNN = 46,
        EXP = 47,
        TOPK_V2 = 48,
        SPLIT = 49,
        LOG_SOFTMAX = 50,
        DELEGATE = 51,
        BIDIRECTIONAL_SEQUENCE_LSTM = 52,
        CAST = 53,
        PRELU = 54,
        MAXIMUM = 55,
        ARG_MAX = 56,
        MINIMUM = 57,
        LESS = 58,
        NEG = 59,
        PADV2 = 60,
        GREATER = 61,
        GREATER_EQUAL = 62,
        LESS_EQUAL = 63,
        SELECT = 64,
        SLICE = 65,
        SIN = 66,
        TRANSPOSE_CONV = 67,
        SPARSE_TO_DENSE = 68,
        TILE = 69,
        EXPAND_DIMS = 70,
        EQUAL = 71,
        NOT_EQUAL = 72,
        LOG = 73,
        SUM = 74,
        SQRT = 75,
        RSQRT = 76,
        SHAPE = 77,
        POW = 78,
        ARG_MIN = 79,
        FAKE_QUANT = 80,
        REDUCE_PROD = 81,
        REDUCE_MAX = 82,
        PACK = 83,
        LOGICAL_OR = 84,
        ONE_HOT = 85,
        LOGICAL_AND = 86,
        LOGICAL_NOT = 87,
        UNPACK = 88,
        REDUCE_MIN = 89,
        FLOOR_DIV = 90,
        REDUCE_ANY = 91,
        SQUARE = 92,
        ZEROS_LIKE = 93,
        FILL = 94,
        FLOOR_MOD = 95,
        RANGE = 96,
        RESIZE_NEAREST_NEIGHBOR = 97,
        LEAKY_RELU = 98,
        SQUARED_DIFFERENCE = 99,
        MIRROR_PAD = 100,
        ABS = 101,
        SPLIT_V = 102,
        UNIQUE = 103,
        CEIL = 104,
        REVERSE_V2 = 105,
        ADD_N = 106,
        GATHER_ND = 107,
        COS = 108,
        WHERE = 109,
        RANK = 110,
        ELU = 111,
        REVERSE_SEQUENCE = 112,
        MATRIX_DIAG = 113,
        QUANTIZE = 114,
        MATRIX_SET_DIAG = 115,
        ROUND = 116,
        HARD_SWISH = 117,
        IF = 118,
        WHILE = 119,
        NON_MAX_SUPPRESSION_V4 = 120,
        NON_MAX_SUPPRESSION_V5 = 121,
        SCATTER_ND = 122,
        SELECT_V2 = 123,
        DENSIFY = 124,
        SEGMENT_SUM = 125,
        BATCH_MATMUL = 126,
        PLACEHOLDER_FOR_GREATER_OP_CODES = 127,
        CUMSUM = 128,
        CALL_ONCE = 129,
        BROADCAST_TO = 130,
        RFFT2D = 131,
        CONV_3D = 132,
        IMAG = 133,
        REAL = 134,
        COMPLEX_ABS = 135,
        HASHTABLE = 136,
        HASHTABLE_FIND = 137,
        HASHTABLE_IMPORT = 138,
        HASHTABLE_SIZE = 139,
        REDUCE_ALL = 140,
        CONV_3D_TRANSPOSE = 141,
        VAR_HANDLE = 142,
        READ_VARIABLE = 143,
        ASSIGN_VARIABLE = 144,
        BROADCAST_ARGS = 145,
        RANDOM_STANDARD_NORMAL = 146,
        BUCKETIZE = 147,
        RANDOM_UNIFORM = 148,
        MULTINOMIAL = 149,
        GELU = 150,
        DYNAMIC_UPDATE_SLICE = 151,
        RELU_0_TO_1 = 152,
        UNSORTED_SEGMENT_PROD = 153,
        UNSORTED_SEGMENT_MAX = 154,
        UNSORTED_SEGMENT_SUM = 155,
        ATAN2 = 156,
        UNSORTED_SEGMENT_MIN = 157,
        SIGN = 158,
        BITCAST = 159,
        BITWISE_XOR = 160,
        RIGHT_SHIFT = 161,
        STABLEHLO_LOGISTIC = 162,
        STABLEHLO_ADD = 163,
        STABLEHLO_DIVIDE = 164,
        STABLEHLO_MULTIPLY = 165,
        STABLEHLO_MAXIMUM = 166,
        STABLEHLO_RESHAPE = 167,
        STABLEHLO_CLAMP = 168,
        STABLEHLO_CONCATENATE = 169,
        STABLEHLO_BROADCAST_IN_DIM = 170,
        STABLEHLO_CONVOLUTION = 171,
        STABLEHLO_SLICE = 172,
        STABLEHLO_CUSTOM_CALL = 173,
        STABLEHLO_REDUCE = 174,
        STABLEHLO_ABS = 175,
        STABLEHLO_AND = 176,
        STABLEHLO_COSINE = 177,
        STABLEHLO_EXPONENTIAL = 178,
        STABLEHLO_FLOOR = 179,
        STABLEHLO_LOG = 180,
        STABLEHLO_MINIMUM = 181,
        STABLEHLO_NEGATE = 182,
        STABLEHLO_OR = 183,
        STABLEHLO_POWER = 184,
        STABLEHLO_REMAINDER = 185,
        STABLEHLO_RSQRT = 186,
        STABLEHLO_SELECT = 187,
        STABLEHLO_SUBTRACT = 188,
        STABLEHLO_TANH = 189,
        STABLEHLO_SCATTER = 190,
        STABLEHLO_COMPARE = 191,
        STABLEHLO_CONVERT = 192,
        STABLEHLO_DYNAMIC_SLICE = 193,
        STABLEHLO_DYNAMIC_UPDATE_SLICE = 194,
        STABLEHLO_PAD = 195,
        STABLEHLO_IOTA = 196,
        STABLEHLO_DOT_GENERAL = 197,
        STABLEHLO_REDUCE_WINDOW = 198,
        STABLEHLO_SORT = 199,
        STABLEHLO_WHILE = 200,
        STABLEHLO_GATHER = 201,
        STABLEHLO_TRANSPOSE = 202,
        DILATE = 203,
        STABLEHLO_RNG_BIT_GENERATOR = 204,
        REDUCE_WINDOW = 205,
        STABLEHLO_COMPOSITE = 206,
        STABLEHLO_SHIFT_LEFT = 207,
        STABLEHLO_CBRT = 208,
        STABLEHLO_CASE = 209,
    }
}
