//! Kernels of generated programs: which texts a program needs, and what stands in them for a type.
//!
//! A kernel is an operation on codes of certain types, with weights of a certain width; its text stands in `kernels/c` and
//! `kernels/rust` with placeholders between `@` signs.

use qat_runtime::{CodeType, WeightBits};

/// What a kernel computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Conv2d,
    ConvTranspose2d,
    Linear,
    MatMul,
    /// Subtraction as well.
    Add,
    Mul,
    MaxPool2d,
    AvgPool2d,
    Mean,
    Clamp,
    /// A function of int8 codes in a table.
    Lookup,
    Sigmoid,
    Tanh,
    LeakyRelu,
    Softmax,
    /// Of int16 codes.
    SoftmaxWide,
    Requantize,
    /// A box of codes: everything that moves them.
    Copy,
    Fill,
    Gather,
}

/// A function that kernels share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Helper {
    At,
    ShiftRight,
    Halve,
    HighProduct,
    ScaleSum,
    ScaleWide,
    ToCode,
    Weight(WeightBits),
    Walk,
    LogisticTable,
    LeadingZeros,
    Reciprocal,
    Interpolate,
}

/// A kernel of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kernel {
    pub(crate) form: Form,
    /// Type of the operands.
    pub(crate) x: CodeType,
    /// Type of the output.
    pub(crate) y: CodeType,
    /// Width of the weights, where there are any.
    pub(crate) bits: Option<WeightBits>,
}

/// What is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Language {
    C,
    Rust,
}

/// The texts of a kernel or helper in both languages.
macro_rules! texts {
    ($language:expr, $name:literal) => {
        match $language {
            Language::C => include_str!(concat!("kernels/c/", $name, ".c")),
            Language::Rust => include_str!(concat!("kernels/rust/", $name, ".rs")),
        }
    };
}

impl Helper {
    /// All helpers; each stands after those that it calls.
    const ALL: [Self; 15] = [
        Self::At,
        Self::ShiftRight,
        Self::Halve,
        Self::HighProduct,
        Self::ScaleSum,
        Self::ScaleWide,
        Self::ToCode,
        Self::Weight(WeightBits::Two),
        Self::Weight(WeightBits::Four),
        Self::Weight(WeightBits::Eight),
        Self::Walk,
        Self::LogisticTable,
        Self::LeadingZeros,
        Self::Reciprocal,
        Self::Interpolate,
    ];

    /// The helpers that this one calls.
    fn calls(self, language: Language) -> &'static [Self] {
        match (self, language) {
            (Self::HighProduct | Self::ScaleWide | Self::Interpolate, Language::C) => &[Self::ShiftRight],
            (Self::Interpolate | Self::LogisticTable | Self::Weight(_), Language::Rust) => &[Self::At],
            (Self::ScaleSum, _) => &[Self::HighProduct, Self::Halve],
            (Self::Reciprocal, _) => &[Self::HighProduct],
            _ => &[],
        }
    }

    fn text(self, language: Language) -> &'static str {
        match self {
            // Slices know their length, and Rust shifts and counts zeros.
            Self::At => include_str!("kernels/rust/at.rs"),
            Self::ShiftRight => include_str!("kernels/c/shift_right.c"),
            Self::LeadingZeros => include_str!("kernels/c/leading_zeros.c"),
            Self::Halve => texts!(language, "halve"),
            Self::HighProduct => texts!(language, "high_product"),
            Self::ScaleSum => texts!(language, "scale_sum"),
            Self::ScaleWide => texts!(language, "scale_wide"),
            Self::ToCode => texts!(language, "to_code"),
            Self::Weight(WeightBits::Two) => texts!(language, "weight_w2"),
            Self::Weight(WeightBits::Four) => texts!(language, "weight_w4"),
            Self::Weight(WeightBits::Eight) => texts!(language, "weight_w8"),
            Self::Walk => texts!(language, "walk"),
            Self::LogisticTable => texts!(language, "logistic_table"),
            Self::Reciprocal => texts!(language, "reciprocal"),
            Self::Interpolate => texts!(language, "interpolate"),
        }
    }
}

impl Form {
    fn name(self) -> &'static str {
        match self {
            Self::Conv2d => "conv2d",
            Self::ConvTranspose2d => "conv_transpose2d",
            Self::Linear => "linear",
            Self::MatMul => "mat_mul",
            Self::Add => "add",
            Self::Mul => "mul",
            Self::MaxPool2d => "max_pool2d",
            Self::AvgPool2d => "avg_pool2d",
            Self::Mean => "mean",
            Self::Clamp => "clamp",
            Self::Lookup => "lookup",
            Self::Sigmoid => "sigmoid",
            Self::Tanh => "tanh",
            Self::LeakyRelu => "leaky_relu",
            Self::Softmax => "softmax",
            Self::SoftmaxWide => "softmax_wide",
            Self::Requantize => "requantize",
            Self::Copy => "copy",
            Self::Fill => "fill",
            Self::Gather => "gather",
        }
    }

    fn text(self, language: Language) -> &'static str {
        match self {
            Self::Conv2d => texts!(language, "conv2d"),
            Self::ConvTranspose2d => texts!(language, "conv_transpose2d"),
            Self::Linear => texts!(language, "linear"),
            Self::MatMul => texts!(language, "mat_mul"),
            Self::Add => texts!(language, "add"),
            Self::Mul => texts!(language, "mul"),
            Self::MaxPool2d => texts!(language, "max_pool2d"),
            Self::AvgPool2d => texts!(language, "avg_pool2d"),
            Self::Mean => texts!(language, "mean"),
            Self::Clamp => texts!(language, "clamp"),
            Self::Lookup => texts!(language, "lookup"),
            Self::Sigmoid => texts!(language, "sigmoid"),
            Self::Tanh => texts!(language, "tanh"),
            Self::LeakyRelu => texts!(language, "leaky_relu"),
            Self::Softmax => texts!(language, "softmax"),
            Self::SoftmaxWide => texts!(language, "softmax_wide"),
            Self::Requantize => texts!(language, "requantize"),
            Self::Copy => texts!(language, "copy"),
            Self::Fill => texts!(language, "fill"),
            Self::Gather => texts!(language, "gather"),
        }
    }
}

impl Language {
    /// The type of codes, as the language spells it.
    pub(crate) fn code(self, code_type: CodeType) -> &'static str {
        match (self, code_type) {
            (Self::C, CodeType::Int8) => "int8_t",
            (Self::C, CodeType::Int16) => "int16_t",
            (Self::C, CodeType::Int32) => "int32_t",
            (Self::Rust, CodeType::Int8) => "i8",
            (Self::Rust, CodeType::Int16) => "i16",
            (Self::Rust, CodeType::Int32) => "i32",
        }
    }

    /// The type of codes in names.
    fn mark(self, code_type: CodeType) -> &'static str {
        match (self, code_type) {
            (Self::C, CodeType::Int8) => "s8",
            (Self::C, CodeType::Int16) => "s16",
            (Self::C, CodeType::Int32) => "s32",
            (Self::Rust, _) => self.code(code_type),
        }
    }
}

impl Kernel {
    /// A kernel without weights whose output has the type of its operands.
    pub(crate) fn plain(form: Form, code_type: CodeType) -> Self {
        Self { form, x: code_type, y: code_type, bits: None }
    }

    /// The part of the kernel's name that says its types, as in `s8_w4`.
    fn types(self, language: Language) -> String {
        let mut types = language.mark(self.x).to_owned();
        if self.y != self.x {
            types += "_";
            types += language.mark(self.y);
        }
        if let Some(bits) = self.bits {
            types += &format!("_w{}", bits.bits());
        }
        types
    }

    /// The name of its function, as in `conv2d_s8_w4`; in C that of its struct as well.
    pub(crate) fn function(self, language: Language) -> String {
        format!("{}_{}", self.form.name(), self.types(language))
    }

    /// The name of its struct in Rust, as in `Conv2dI8W4`.
    pub(crate) fn rust_struct(self) -> String {
        camel(&self.function(Language::Rust))
    }

    fn calls(self, language: Language) -> Vec<Helper> {
        let scale = if self.x == CodeType::Int8 { Helper::ScaleSum } else { Helper::ScaleWide };
        let own: &[Helper] = match self.form {
            Form::Conv2d | Form::ConvTranspose2d | Form::Linear | Form::MatMul => &[scale, Helper::ToCode],
            Form::Add | Form::Mul | Form::Mean => &[Helper::ScaleSum, Helper::ToCode, Helper::Walk],
            Form::LeakyRelu | Form::Requantize => &[Helper::ScaleSum, Helper::ToCode],
            Form::Clamp if language == Language::C => &[Helper::ToCode],
            Form::Sigmoid | Form::Tanh => &[Helper::LogisticTable],
            Form::Softmax => &[Helper::Halve, Helper::Reciprocal, Helper::ToCode],
            Form::SoftmaxWide => &[Helper::ScaleSum, Helper::Interpolate, Helper::ToCode],
            Form::Copy => &[Helper::Walk],
            Form::MaxPool2d | Form::AvgPool2d | Form::Clamp | Form::Lookup | Form::Fill | Form::Gather => &[],
        };
        let besides: &[Helper] = match (language, self.form) {
            (Language::C, Form::Sigmoid | Form::Tanh) => &[Helper::ShiftRight],
            (Language::C, Form::Softmax) => &[Helper::LeadingZeros],
            (Language::C, Form::SoftmaxWide) => &[Helper::LeadingZeros, Helper::ShiftRight],
            (Language::Rust, Form::Clamp | Form::Sigmoid | Form::Tanh | Form::LeakyRelu | Form::Requantize | Form::Fill)
            | (Language::C, _) => &[],
            (Language::Rust, _) => &[Helper::At],
        };
        own.iter().chain(besides).copied().chain(self.bits.map(Helper::Weight)).collect()
    }

    /// The kernel's text, types in place.
    fn text(self, language: Language) -> String {
        let is_wide = self.x == CodeType::Int16;
        let sum = match (language, is_wide) {
            (Language::C, false) => "int32_t",
            (Language::C, true) => "int64_t",
            (Language::Rust, false) => "i32",
            (Language::Rust, true) => "i64",
        };
        let weight = match (language, self.bits) {
            (Language::C, Some(WeightBits::Eight)) => "int8_t",
            (Language::C, _) => "uint8_t",
            (Language::Rust, Some(WeightBits::Eight)) => "i8",
            (Language::Rust, _) => "u8",
        };
        let accessor = self.bits.map(|bits| format!("weight_w{}", bits.bits())).unwrap_or_default();
        let widening = is_wide && language == Language::Rust;
        let types = self.types(language);
        let (lowest, highest) = (self.y.min().to_string(), self.y.max().to_string());
        let replacements: [(&str, &str); 12] = [
            ("@[@", if widening { "i64::from(" } else { "" }),
            ("@]@", if widening { ")" } else { "" }),
            ("@n@", &types),
            ("@N@", &camel(&types)),
            ("@x@", language.code(self.x)),
            ("@y@", language.code(self.y)),
            ("@sum@", sum),
            ("@scale@", if is_wide { "scale_wide" } else { "scale_sum" }),
            ("@weight@", weight),
            ("@w@", &accessor),
            ("@lowest@", &lowest),
            ("@highest@", &highest),
        ];
        replacements.iter().fold(self.form.text(language).to_owned(), |text, (from, to)| text.replace(from, to))
    }
}

/// `conv2d_i8_w4` as `Conv2dI8W4`.
fn camel(name: &str) -> String {
    let capital = |part: &str| {
        let mut characters = part.chars();
        characters.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(characters).collect::<String>()
    };
    name.split('_').map(capital).collect()
}

/// The texts of the kernels and of all helpers that they call, helpers first; `axes` is the number of axes that walks count.
pub(crate) fn texts(kernels: &[Kernel], axes: usize, language: Language) -> Vec<String> {
    let mut needed: Vec<Helper> = kernels.iter().flat_map(|kernel| kernel.calls(language)).collect();
    // Helpers stand after those that they call, so one pass from the last to the first finds all.
    for helper in Helper::ALL.iter().rev() {
        if needed.contains(helper) {
            needed.extend(helper.calls(language));
        }
    }
    let helpers = Helper::ALL.iter().filter(|helper| needed.contains(helper));
    let helpers = helpers.map(|helper| helper.text(language).replace("@axes@", &axes.to_string()));
    helpers.chain(kernels.iter().map(|kernel| kernel.text(language))).collect()
}
