//! Both kernels equal ONNX Runtime, LiteRT (default and reference) and TFLite-Micro, bit for bit, on the products in
//! `goldens/weighted/`.
//!
//! Each file starts with its birth certificate: script, versions, seed, command. A case is one operator with the codes that each
//! engine gave; under the rules of each engine it becomes a model of its own.

use std::{collections::BTreeMap, fs, path::Path};

use qat_runtime::{
    Clamp, CodeType, Codes, Conv2d, ConvTranspose2d, IntegerModel, Linear, MatMul, Node, Op, PackedCodes, QParams, Rules,
    ValueId, ValueInfo, WeightBits, Weights,
};

/// One `key words… [: bytes]` line of a case.
struct Field<'a> {
    key: &'a str,
    words: Vec<&'a str>,
    bytes: Vec<u8>,
}

impl Field<'_> {
    fn numbers(&self) -> Vec<usize> {
        self.words.iter().map(|word| word.parse().expect("an integer")).collect()
    }

    fn pair(&self) -> [usize; 2] {
        self.numbers().try_into().expect("two integers")
    }

    fn chunks<const N: usize>(&self) -> impl Iterator<Item = [u8; N]> {
        self.bytes.chunks_exact(N).map(|bytes| bytes.try_into().expect("whole numbers"))
    }

    /// The bytes as codes of that type.
    fn codes(&self, code_type: CodeType) -> Codes {
        match code_type {
            CodeType::Int8 => Codes::Int8(self.chunks().map(i8::from_le_bytes).collect()),
            CodeType::Int16 => Codes::Int16(self.chunks().map(i16::from_le_bytes).collect()),
            CodeType::Int32 => Codes::Int32(self.chunks().map(i32::from_le_bytes).collect()),
        }
    }
}

fn unhex(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().chunks_exact(2);
    digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).expect("ascii"), 16).expect("hexadecimal")).collect()
}

fn scale(word: &str) -> f32 {
    f32::from_le_bytes(unhex(word).try_into().expect("four bytes"))
}

fn parse(line: &str) -> Field<'_> {
    let (head, bytes) = line.split_once(" : ").unwrap_or((line, ""));
    let mut words = head.split_whitespace();
    Field { key: words.next().expect("a key"), words: words.collect(), bytes: unhex(bytes) }
}

/// The fields of one case.
struct Case<'a> {
    name: &'a str,
    fields: Vec<Field<'a>>,
}

impl Case<'_> {
    fn find(&self, key: &str) -> &Field<'_> {
        self.get(key).unwrap_or_else(|| panic!("{} has no {key}", self.name))
    }

    fn get(&self, key: &str) -> Option<&Field<'_>> {
        self.fields.iter().find(|field| field.key == key)
    }

    /// The type of the activations: their bytes over the number of elements.
    fn code_type(&self) -> CodeType {
        let x = self.find("input");
        let elements: usize = x.words[2..].iter().map(|word| word.parse::<usize>().expect("an integer")).product();
        match x.bytes.len() / elements {
            1 => CodeType::Int8,
            2 => CodeType::Int16,
            size => panic!("{}: codes of {size} bytes", self.name),
        }
    }

    /// A model of one node under the rules, whose sample leaves out the first axis unless the node is a matrix product.
    fn model(&self, rules: Rules) -> IntegerModel {
        let (code_type, kind) = (self.code_type(), self.find("op").words[0]);
        let batched = if kind == "matmul" { 0 } else { 1 };
        let value = |name: &str, words: &[&str]| ValueInfo {
            name: name.into(),
            shape: words[2 + batched..].iter().map(|word| word.parse().expect("an integer")).collect(),
            code_type,
            qparams: QParams { scale: scale(words[0]), zero_point: words[1].parse().expect("an integer") },
        };
        let (x, y) = (value("x", &self.find("input").words), value("y", &self.find("output").words));
        let full = Clamp::full(code_type);
        let relu = self.find("relu").words == ["1"];
        let clamp = Clamp { min: if relu { y.qparams.zero_point as i16 } else { full.min }, ..full };
        let (weight, name) = (self.find("weight"), String::from("layer"));
        let dimensions: Vec<usize> = weight.words[1..].iter().map(|word| word.parse().expect("an integer")).collect();
        if kind == "matmul" {
            let steps: Vec<f32> = self.find("weight_scale").chunks().map(f32::from_le_bytes).collect();
            let zero_point = weight.words[0].parse().expect("an integer");
            let qparams = QParams { scale: steps[0], zero_point };
            let rhs = ValueInfo { name: "rhs".into(), shape: dimensions, code_type, qparams };
            let op = Op::MatMul(MatMul { transpose_rhs: false, clamp });
            let constant = Op::Constant(weight.codes(code_type));
            let nodes = vec![
                Node { op: constant, inputs: vec![], output: ValueId(1) },
                Node { op, inputs: vec![ValueId(0), ValueId(1)], output: ValueId(2) },
            ];
            return IntegerModel { rules, values: vec![x, rhs, y], nodes, input: ValueId(0), output: ValueId(2) };
        }
        let attribute = |key: &str| self.find(key).pair();
        let groups = || self.find("groups").numbers()[0];
        let padding = || self.find("padding").numbers().try_into().expect("four sides");
        let op = match kind {
            "conv1d" | "conv2d" => Op::Conv2d(Conv2d {
                name,
                c_out: dimensions[0],
                c_in: x.shape[0],
                kernel: attribute("kernel"),
                stride: attribute("stride"),
                padding: padding(),
                dilation: attribute("dilation"),
                groups: groups(),
                weights: self.weights(weight.codes(CodeType::Int8), dimensions[0]),
                clamp,
            }),
            "transpose_conv2d" => Op::ConvTranspose2d(ConvTranspose2d {
                name,
                c_out: dimensions[1] * groups(),
                c_in: dimensions[0],
                kernel: attribute("kernel"),
                stride: attribute("stride"),
                padding: padding(),
                output_padding: attribute("output_padding"),
                dilation: attribute("dilation"),
                groups: groups(),
                weights: self
                    .weights(outputs_first(&weight.codes(CodeType::Int8), &dimensions, groups()), dimensions[1] * groups()),
                clamp,
            }),
            "linear" => Op::Linear(Linear {
                name,
                d_input: dimensions[1],
                d_output: dimensions[0],
                weights: self.weights(weight.codes(CodeType::Int8), dimensions[0]),
                clamp,
            }),
            other => panic!("{other} has no model"),
        };
        let nodes = vec![Node { op, inputs: vec![ValueId(0)], output: ValueId(1) }];
        let mut model = IntegerModel { rules, values: vec![x, y], nodes, input: ValueId(0), output: ValueId(1) };
        self.store(&mut model);
        model
    }

    /// Weights of 8 bits; a tensor with one step for all channels gets it for each.
    fn weights(&self, codes: Codes, channels: usize) -> Weights {
        let steps: Vec<f32> = self.find("weight_scale").chunks().map(f32::from_le_bytes).collect();
        let bias = |field: &Field| -> Vec<i64> {
            match self.code_type() {
                CodeType::Int16 => field.chunks().map(i64::from_le_bytes).collect(),
                _ => field.chunks().map(i32::from_le_bytes).map(i64::from).collect(),
            }
        };
        Weights {
            codes: PackedCodes::eight(codes.as_int8().expect("int8")),
            scale: if steps.len() == 1 { vec![steps[0]; channels] } else { steps },
            bias: self.get("bias").map_or_else(|| vec![0; channels], bias),
        }
    }

    /// Packs the weights as the case has them, and checks that the runtime's files do.
    fn store(&self, model: &mut IntegerModel) {
        let bits = WeightBits::holding(self.find("bits").words[0].parse().expect("an integer")).expect("at most 8");
        let op = &mut model.nodes[0].op;
        let packed = match op {
            Op::Conv2d(op) => &mut op.weights.codes,
            Op::ConvTranspose2d(op) => &mut op.weights.codes,
            Op::Linear(op) => &mut op.weights.codes,
            other => panic!("{} has no weights", other.kind()),
        };
        *packed = PackedCodes::pack(&packed.unpack(), bits).expect("codes of that width");
        if model.rules != Rules::OnnxRuntime {
            assert_eq!(model.rules.weight_storage(op, self.code_type()), Some(bits), "{} under {}", self.name, model.rules);
        }
    }
}

/// `[c_in, c_out / groups, ..]` to `[c_out, c_in / groups, ..]`.
fn outputs_first(codes: &Codes, dimensions: &[usize], groups: usize) -> Codes {
    let codes = codes.as_int8().expect("int8");
    let (c_in_group, c_out_group) = (dimensions[0] / groups, dimensions[1]);
    let size = codes.len() / (dimensions[0] * c_out_group);
    let kernel = |i: usize, o: usize| &codes[(i * c_out_group + o) * size..][..size];
    let mut result = Vec::with_capacity(codes.len());
    for c_out in 0..c_out_group * groups {
        for i in 0..c_in_group {
            result.extend_from_slice(kernel(c_out / c_out_group * c_in_group + i, c_out % c_out_group));
        }
    }
    Codes::Int8(result)
}

/// Compares every case of a file, under the rules of each of its engines and by both kernels. `counts` are the numbers of codes
/// that the file must hold at least for ONNX Runtime (in either graph form), LiteRT, its reference and TFLite-Micro.
fn assert_equal(family: &str, counts: [usize; 4]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/goldens/weighted/{family}.txt"));
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    let starts: Vec<usize> = (0..lines.len()).filter(|&i| lines[i].starts_with("case ")).collect();
    let ends = starts.iter().skip(1).copied().chain([lines.len()]);
    let mut compared = BTreeMap::new();
    for (&start, end) in starts.iter().zip(ends) {
        let fields = lines[start + 1..end].iter().map(|line| parse(line)).collect();
        let case = Case { name: &lines[start][5..], fields };
        let input = case.find("input").codes(case.code_type());
        for field in case.fields.iter().filter(|field| field.key == "codes") {
            for engine in &field.words {
                let (engine, rule) = engine.split_once('=').expect("an engine and its rule");
                let rules = match engine {
                    "onnxruntime" | "onnxruntime-qop" => Rules::OnnxRuntime,
                    "litert" => Rules::LiteRt,
                    "litert-ref" => Rules::LiteRtReference,
                    "tflm" => Rules::TfliteMicro,
                    other => panic!("{other} is no engine"),
                };
                let model = case.model(rules);
                let expected = field.codes(case.code_type());
                for (kernels, found) in [("fast", model.run(&input)), ("reference", model.run_reference(&input))] {
                    let found = found.unwrap_or_else(|error| panic!("{family} {} under {rules}: {error}", case.name));
                    let different = (0..expected.len()).filter(|&i| found.view().at(i) != expected.view().at(i)).count();
                    let context = format!("{family} {} ({engine}, {rule}, {kernels} kernels)", case.name);
                    assert_eq!((found.len(), different), (expected.len(), 0), "{context}: length and number of differences");
                }
                *compared.entry(rules.name()).or_insert(0) += expected.len();
            }
        }
    }
    println!("{family}: {compared:?}");
    for (rules, at_least) in ["onnx-runtime", "litert", "litert-reference", "tflite-micro"].into_iter().zip(counts) {
        let found = compared.get(rules).copied().unwrap_or(0);
        assert!(found >= at_least, "{family} under {rules}: expected at least {at_least} codes, found {found}");
    }
}

#[test]
fn convolutions_equal_every_engine() {
    assert_equal("conv", [10_000, 5_000, 5_000, 5_000]);
}

#[test]
fn linear_layers_equal_every_engine() {
    assert_equal("linear", [400, 300, 300, 300]);
}

#[test]
fn transposed_convolutions_equal_every_engine() {
    assert_equal("transpose_conv", [3_000, 3_000, 3_000, 3_000]);
}

#[test]
fn products_of_activations_equal_every_engine() {
    assert_equal("matmul", [800, 400, 400, 400]);
}

#[test]
fn packed_weights_equal_every_engine() {
    assert_equal("weights_int4", [500, 1_000, 1_000, 1_000]);
}

#[test]
fn int16_activations_equal_every_engine() {
    assert_equal("activations_int16", [1_000, 1_000, 1_000, 1_000]);
}
