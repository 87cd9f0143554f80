//! Element-wise operations, pools, means, functions and movement equal each runtime, bit for bit, on the cases in
//! `goldens/elementwise_*.txt`.
//!
//! Each file starts with its birth certificate: script, versions, seed, command. A case becomes a model of one node and, where it
//! has more operands than one, of constants.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use qat_runtime::{
    AvgPool2d, Clamp, CodeType, Codes, Concat, Elementwise, Function, IntegerModel, MaxPool2d, Mean, Node, Op, Pad, QParams,
    ResizeNearest, Rules, Slice, Softmax, Transpose, Unary, ValueId, ValueInfo, softmax_table, unary_table,
};

fn unhex(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().chunks_exact(2);
    digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).expect("ascii"), 16).expect("hexadecimal")).collect()
}

fn real(word: &str) -> f32 {
    f32::from_le_bytes(unhex(word).try_into().expect("four bytes"))
}

/// A tensor of a case: its meaning and codes.
struct Tensor {
    info: ValueInfo,
    codes: Codes,
}

/// `type scale zero_point dimensions… : codes`.
fn tensor(text: &str, name: &str) -> Tensor {
    let (head, bytes) = text.split_once(" : ").expect("a colon");
    let words: Vec<&str> = head.split_whitespace().collect();
    let bytes = unhex(bytes);
    let codes = match words[0] {
        "int8" => Codes::Int8(bytes.iter().map(|&byte| byte as i8).collect()),
        "int16" => Codes::Int16(bytes.chunks_exact(2).map(|pair| i16::from_le_bytes([pair[0], pair[1]])).collect()),
        other => panic!("{name} has codes of {other}"),
    };
    let qparams = QParams { scale: real(words[1]), zero_point: words[2].parse().expect("an integer") };
    let shape: Vec<usize> = words[3..].iter().map(|word| word.parse().expect("an integer")).collect();
    let info = ValueInfo { code_type: codes.view().code_type(), ..ValueInfo::int8(name, &shape, qparams) };
    Tensor { info, codes }
}

/// One node's attributes, operands and result.
struct Case {
    op: String,
    name: String,
    attributes: Vec<(String, Vec<String>)>,
    inputs: Vec<Tensor>,
    output: Tensor,
}

impl Case {
    fn words(&self, key: &str) -> &[String] {
        let found = self.attributes.iter().find(|(name, _)| name == key);
        &found.unwrap_or_else(|| panic!("{} {} has no {key}", self.op, self.name)).1
    }

    fn numbers(&self, key: &str) -> Vec<usize> {
        self.words(key).iter().map(|word| word.parse().expect("an integer")).collect()
    }

    fn array<const N: usize>(&self, key: &str) -> [usize; N] {
        self.numbers(key).try_into().expect("as many integers as the attribute has")
    }

    fn unary(&self, rules: Rules, function: Function) -> Op {
        let table = unary_table(rules, function, &self.inputs[0].info, &self.output.info);
        Op::Unary(Unary { function, table: table.expect("the rules have the function") })
    }

    fn node(&self, rules: Rules) -> Op {
        let full = Elementwise { clamp: Clamp::full(self.output.info.code_type) };
        let QParams { scale, zero_point } = self.output.info.qparams;
        match self.op.as_str() {
            "add" => Op::Add(full),
            "sub" => Op::Sub(full),
            "mul" => Op::Mul(full),
            "avg_pool" => Op::AvgPool2d(AvgPool2d {
                kernel: self.array("kernel"),
                stride: self.array("stride"),
                padding: self.array("padding"),
                count_include_pad: false,
            }),
            "max_pool" => Op::MaxPool2d(MaxPool2d {
                kernel: self.array("kernel"),
                stride: self.array("stride"),
                padding: self.array("padding"),
                dilation: [1, 1],
            }),
            "mean" => Op::Mean(Mean { axes: self.numbers("axes"), keep_dims: self.numbers("keep_dims") == [1] }),
            "relu" => Op::Clamp(Clamp { min: zero_point as i16, max: full.clamp.max }),
            "relu6" => {
                let steps = 6.0 / scale;
                let steps = if rules == Rules::OnnxRuntime { steps.round_ties_even() } else { steps.round() };
                let max = (zero_point + steps as i32).min(full.clamp.max.into());
                Op::Clamp(Clamp { min: zero_point as i16, max: max as i16 })
            }
            "requantize" => Op::Requantize,
            "sigmoid" => self.unary(rules, Function::Sigmoid),
            "tanh" => self.unary(rules, Function::Tanh),
            "hard_swish" => self.unary(rules, Function::HardSwish),
            "gelu" if self.numbers("approximate") == [1] => self.unary(rules, Function::GeluTanh),
            "gelu" => self.unary(rules, Function::Gelu),
            "leaky_relu" => self.unary(rules, Function::LeakyRelu { slope: real(&self.words("alpha")[0]) }),
            "softmax" => {
                Op::Softmax(Softmax { table: softmax_table(rules, &self.inputs[0].info).expect("the rules have a softmax") })
            }
            "concat" => Op::Concat(Concat { axis: self.numbers("axis")[0] }),
            "pad" => Op::Pad(Pad { before: self.numbers("before"), after: self.numbers("after") }),
            "slice" => {
                let (start, size) = (self.numbers("begin"), self.numbers("size"));
                let end = start.iter().zip(&size).map(|(start, size)| start + size).collect();
                Op::Slice(Slice { step: vec![1; start.len()], start, end })
            }
            "transpose" => Op::Transpose(Transpose { permutation: self.numbers("permutation") }),
            "reshape" => Op::Reshape,
            "resize_nearest" => Op::ResizeNearest(ResizeNearest { factor: self.array("factor") }),
            other => panic!("{other} has no model"),
        }
    }

    /// The model: the first operand is its input, the others are constants.
    fn model(&self, rules: Rules) -> IntegerModel {
        let mut values: Vec<ValueInfo> = self.inputs.iter().map(|input| input.info.clone()).collect();
        let output = ValueId(values.len());
        values.push(self.output.info.clone());
        let constant =
            |(i, input): (usize, &Tensor)| Node { op: Op::Constant(input.codes.clone()), inputs: vec![], output: ValueId(i) };
        let mut nodes: Vec<Node> = self.inputs.iter().enumerate().skip(1).map(constant).collect();
        nodes.push(Node { op: self.node(rules), inputs: (0..self.inputs.len()).map(ValueId).collect(), output });
        IntegerModel { rules, values, nodes, input: ValueId(0), output }
    }
}

fn case(lines: &[&str]) -> Case {
    let (op, name) = lines[0][5..].split_once(' ').expect("an operation and a name");
    let (mut attributes, mut inputs, mut output) = (vec![], vec![], None);
    for line in &lines[1..] {
        match line.split_once(' ').expect("a key") {
            ("input", text) => inputs.push(tensor(text, &format!("x{}", inputs.len()))),
            ("output", text) => output = Some(tensor(text, "y")),
            (key, words) => attributes.push((key.into(), words.split_whitespace().map(String::from).collect())),
        }
    }
    Case { op: op.into(), name: name.into(), attributes, inputs, output: output.expect("an output") }
}

/// The committed folder, and one of fresh cases where the environment names it.
fn folders() -> Vec<PathBuf> {
    let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens");
    let fresh = env::var_os("QAT_ELEMENTWISE_GOLDENS").map(PathBuf::from);
    if fresh.is_none() {
        println!("fresh cases: skipped, QAT_ELEMENTWISE_GOLDENS names no folder");
    }
    [committed].into_iter().chain(fresh).collect()
}

fn read(folder: &Path, file: &str) -> Vec<Case> {
    let path = folder.join(format!("elementwise_{file}.txt"));
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    let starts: Vec<usize> = (0..lines.len()).filter(|&i| lines[i].starts_with("case ")).collect();
    let ends = starts.iter().skip(1).copied().chain([lines.len()]);
    starts.iter().zip(ends).map(|(&start, end)| case(&lines[start..end])).collect()
}

/// Compares every case of a file, under both kernels; `expected` are the operations and code types that must be among them.
fn assert_equal(rules: Rules, file: &str, int8: &[&str], int16: &[&str]) {
    let mut seen: Vec<(String, CodeType)> = Vec::new();
    let mut differences = Vec::new();
    for case in folders().iter().flat_map(|folder| read(folder, file)) {
        let model = case.model(rules);
        for (kernels, found) in
            [("fast", model.run(&case.inputs[0].codes)), ("reference", model.run_reference(&case.inputs[0].codes))]
        {
            let found = found.unwrap_or_else(|error| panic!("{} {}: {error}", case.op, case.name));
            let (found, expected) = (found.to_i32s(), case.output.codes.to_i32s());
            assert_eq!(found.len(), expected.len(), "{} {}", case.op, case.name);
            let wrong: Vec<_> = (0..found.len()).filter(|&i| found[i] != expected[i]).collect();
            if let Some(&first) = wrong.first() {
                let (ours, theirs) = (found[first], expected[first]);
                differences.push(format!(
                    "{} {} ({kernels}): {} of {}, at {first} ours {ours}, theirs {theirs}",
                    case.op,
                    case.name,
                    wrong.len(),
                    found.len()
                ));
            }
        }
        seen.push((case.op, case.inputs[0].info.code_type));
    }
    assert!(differences.is_empty(), "{rules}:\n{}", differences.join("\n"));
    for (ops, code_type) in [(int8, CodeType::Int8), (int16, CodeType::Int16)] {
        for &op in ops {
            let count = seen.iter().filter(|(seen, seen_type)| seen == op && *seen_type == code_type).count();
            assert!(count >= 2, "{rules}: expected cases of {op} on {}, found {count}", code_type.name());
        }
    }
}

const MOVEMENT: [&str; 6] = ["concat", "pad", "slice", "transpose", "reshape", "resize_nearest"];

#[test]
fn onnxruntime() {
    let both =
        ["add", "sub", "mul", "mean", "relu", "relu6", "requantize", "sigmoid", "tanh", "hard_swish", "gelu", "leaky_relu"];
    let int8 = [&both[..], &MOVEMENT, &["softmax"]].concat();
    assert_equal(Rules::OnnxRuntime, "onnx_runtime", &int8, &[&both[..], &MOVEMENT].concat());
}

/// What all TFLite engines have on both code types.
const TFLITE: [&str; 12] =
    ["add", "sub", "mul", "avg_pool", "max_pool", "mean", "relu", "relu6", "requantize", "leaky_relu", "softmax", "tanh"];

#[test]
fn litert() {
    let int8 = [&TFLITE[..], &MOVEMENT, &["sigmoid", "hard_swish", "gelu"]].concat();
    assert_equal(Rules::LiteRt, "litert", &int8, &[&TFLITE[..], &MOVEMENT, &["sigmoid"]].concat());
}

#[test]
fn litert_reference() {
    let int8 = [&TFLITE[..], &MOVEMENT, &["sigmoid", "hard_swish", "gelu"]].concat();
    assert_equal(Rules::LiteRtReference, "litert_reference", &int8, &[&TFLITE[..], &MOVEMENT, &["sigmoid"]].concat());
}

#[test]
fn tflite_micro() {
    let int8 = [&TFLITE[..], &MOVEMENT, &["sigmoid", "hard_swish"]].concat();
    assert_equal(Rules::TfliteMicro, "tflite_micro", &int8, &[&TFLITE[..], &MOVEMENT, &["sigmoid"]].concat());
}
