//! Both kernels equal ONNX Runtime, bit for bit, on the cases in `goldens/`.
//!
//! Each file starts with its birth certificate: script, versions, seed, command. A case becomes a model of one node.

use std::{fs, path::Path};

use qat_runtime::{
    AvgPool2d, Clamp, Codes, Conv2d, Elementwise, IntegerModel, Linear, MaxPool2d, Node, Op, PackedCodes, QParams, Rules,
    ValueId, ValueInfo, Weights,
};

/// One `key words… [: bytes]` line of a case.
struct Field<'a> {
    key: &'a str,
    words: Vec<&'a str>,
    bytes: Vec<u8>,
}

impl Field<'_> {
    fn numbers<const N: usize>(&self) -> [usize; N] {
        let numbers: Vec<usize> = self.words.iter().map(|word| word.parse().expect("an integer")).collect();
        numbers.try_into().expect("as many integers as the attribute has")
    }

    fn codes(&self) -> Vec<i8> {
        self.bytes.iter().map(|&byte| byte as i8).collect()
    }

    fn words_of_4(&self) -> impl Iterator<Item = [u8; 4]> {
        self.bytes.chunks_exact(4).map(|bytes| bytes.try_into().expect("four bytes"))
    }

    /// `scale zero_point N dimensions…` of an operand or result.
    fn value(&self, name: String) -> ValueInfo {
        let scale = f32::from_le_bytes(unhex(self.words[0]).try_into().expect("four bytes"));
        let zero_point = self.words[1].parse().expect("an integer");
        let shape: Vec<usize> = self.words[3..].iter().map(|word| word.parse().expect("an integer")).collect();
        ValueInfo::int8(&name, &shape, QParams { scale, zero_point })
    }
}

fn unhex(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().chunks_exact(2);
    digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).expect("ascii"), 16).expect("hexadecimal")).collect()
}

fn parse(line: &str) -> Field<'_> {
    let (head, bytes) = line.split_once(" : ").unwrap_or((line, ""));
    let mut words = head.split_whitespace();
    Field { key: words.next().expect("a key"), words: words.collect(), bytes: unhex(bytes) }
}

/// A model of one node, its operands and what ONNX Runtime computed from them, batch first.
struct Case {
    name: String,
    model: IntegerModel,
    operands: Vec<Vec<i8>>,
    expected: Vec<i8>,
}

fn case(op: &str, name: &str, lines: &[&str]) -> Case {
    let fields: Vec<Field> = lines.iter().map(|line| parse(line)).collect();
    let find = |key: &str| fields.iter().find(|field| field.key == key).unwrap_or_else(|| panic!("{name} has no {key}"));
    let inputs: Vec<&Field> = fields.iter().filter(|field| field.key == "input").collect();
    let mut values: Vec<ValueInfo> = inputs.iter().enumerate().map(|(i, field)| field.value(format!("x{i}"))).collect();
    let output = find("output");
    let y = output.value("y".into());
    // The relu is fused where the output's zero point is the lowest code.
    let min = if find("relu").words == ["1"] { y.qparams.zero_point as i16 } else { -128 };
    let clamp = Clamp { min, max: 127 };

    let weights = || Weights {
        codes: PackedCodes::eight(&find("weight").codes()),
        scale: find("weight_scale").words_of_4().map(f32::from_le_bytes).collect(),
        bias: find("bias").words_of_4().map(|bytes| i32::from_le_bytes(bytes).into()).collect(),
    };
    let op = match op {
        "conv2d" => {
            let (weight, [groups]) = (find("weight"), find("groups").numbers());
            let [c_out, c_in_group, k_h, k_w] = weight.numbers();
            Op::Conv2d(Conv2d {
                name: "conv".into(),
                weights: weights(),
                c_out,
                c_in: c_in_group * groups,
                kernel: [k_h, k_w],
                stride: find("stride").numbers(),
                padding: find("padding").numbers(),
                dilation: find("dilation").numbers(),
                groups,
                clamp,
            })
        }
        "linear" => {
            let weight = find("weight");
            let [d_output, d_input] = weight.numbers();
            Op::Linear(Linear { name: "fc".into(), weights: weights(), d_input, d_output, clamp })
        }
        "add" => Op::Add(Elementwise { clamp }),
        "max_pool2d" => Op::MaxPool2d(MaxPool2d {
            kernel: find("kernel").numbers(),
            stride: find("stride").numbers(),
            padding: find("padding").numbers(),
            dilation: find("dilation").numbers(),
        }),
        "avg_pool2d" => Op::AvgPool2d(AvgPool2d {
            kernel: find("kernel").numbers(),
            stride: find("stride").numbers(),
            padding: find("padding").numbers(),
            count_include_pad: find("count_include_pad").numbers() == [1],
        }),
        "global_avg_pool2d" => {
            let kernel = values[0].shape[1..].try_into().expect("two sides");
            Op::AvgPool2d(AvgPool2d { kernel, stride: [1, 1], padding: [0; 4], count_include_pad: false })
        }
        "relu" => Op::Clamp(Clamp { min: y.qparams.zero_point as i16, max: 127 }),
        other => panic!("{other} has no model"),
    };
    let operands: Vec<Vec<i8>> = inputs.iter().map(|field| field.codes()).collect();
    let result = ValueId(values.len());
    values.push(y);
    let inputs = (0..operands.len()).map(ValueId).collect();
    let nodes = vec![Node { op, inputs, output: result }];
    let model = IntegerModel { rules: Rules::OnnxRuntime, values, nodes, input: ValueId(0), output: result };
    Case { name: name.into(), model, operands, expected: output.codes() }
}

/// A 1 × 1 convolution from `[2 · c, h, w]` that copies the codes of channels `first..first + c`, whatever the parameters:
/// weight 1 on the channel, a bias that moves the zero point, a multiplier within rounding of 1.
fn copy_channels(x: QParams, y: QParams, first: usize, c: usize) -> Op {
    let weight: Vec<i8> = (0..c).flat_map(|channel| (0..2 * c).map(move |input| i8::from(input == first + channel))).collect();
    let weight_scale = y.scale / x.scale;
    Op::Conv2d(Conv2d {
        name: format!("copy{first}"),
        weights: Weights {
            codes: PackedCodes::eight(&weight),
            scale: vec![weight_scale; c],
            bias: vec![(x.zero_point - y.zero_point).into(); c],
        },
        c_out: c,
        c_in: 2 * c,
        kernel: [1, 1],
        stride: [1, 1],
        padding: [0; 4],
        dilation: [1, 1],
        groups: 1,
        clamp: Clamp::INT8,
    })
}

/// A model has one input; where the case has two operands they become the halves of its channels.
fn single_input(case: Case) -> Case {
    let [a, b] = case.operands.as_slice() else { return case };
    let mut model = case.model;
    let &[c, h, w] = model.values[0].shape.as_slice() else { panic!("{}: expected images", case.name) };
    let sample = c * h * w;
    let both = a.chunks(sample).zip(b.chunks(sample)).flat_map(|(a, b)| a.iter().chain(b).copied()).collect();
    let input = ValueInfo { name: "both".into(), shape: vec![2 * c, h, w], ..model.values[0].clone() };
    model.input = ValueId(model.values.len());
    for half in [1, 0] {
        let op = copy_channels(input.qparams, model.values[half].qparams, half * c, c);
        model.nodes.insert(0, Node { op, inputs: vec![model.input], output: ValueId(half) });
    }
    model.values.push(input);
    Case { model, operands: vec![both], ..case }
}

fn read(op: &str) -> Vec<Case> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/goldens/{op}.txt"));
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    let starts: Vec<usize> = (0..lines.len()).filter(|&i| lines[i].starts_with("case ")).collect();
    let ends = starts.iter().skip(1).copied().chain([lines.len()]);
    starts.iter().zip(ends).map(|(&start, end)| case(op, &lines[start][5..], &lines[start + 1..end])).collect()
}

/// Compares every case of a file, under both kernels; `codes` is the number of output codes the file must hold at least.
fn assert_equal(op: &str, codes: usize) {
    let mut compared = 0;
    for case in read(op).into_iter().map(single_input) {
        let outputs = [("fast", case.model.run(&case.operands[0])), ("reference", case.model.run_reference(&case.operands[0]))];
        for (kernels, found) in outputs {
            let found = found.unwrap_or_else(|error| panic!("{op} {}: {error}", case.name));
            let Codes::Int8(found) = found else { panic!("{op} {}: expected int8 codes", case.name) };
            assert_eq!(found.len(), case.expected.len(), "{op} {}", case.name);
            let differences: Vec<_> =
                found.iter().zip(&case.expected).enumerate().filter(|(_, (found, expected))| found != expected).collect();
            assert!(differences.is_empty(), "{op} {} ({kernels}), index and (ours, theirs): {differences:?}", case.name);
        }
        compared += case.expected.len();
    }
    println!("{op}: {compared} codes");
    assert!(compared >= codes, "{op}: expected at least {codes} codes, found {compared}");
}

#[test]
fn conv2d_equals_onnxruntime() {
    assert_equal("conv2d", 10_000);
}

#[test]
fn linear_equals_onnxruntime() {
    assert_equal("linear", 500);
}

#[test]
fn add_equals_onnxruntime() {
    assert_equal("add", 5_000);
}

#[test]
fn max_pool2d_equals_onnxruntime() {
    assert_equal("max_pool2d", 500);
}

#[test]
fn avg_pool2d_equals_onnxruntime() {
    assert_equal("avg_pool2d", 2_000);
}

#[test]
fn global_avg_pool2d_equals_onnxruntime() {
    assert_equal("global_avg_pool2d", 100);
}

#[test]
fn relu_equals_onnxruntime() {
    assert_equal("relu", 1_000);
}
