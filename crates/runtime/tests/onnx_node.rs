//! The integer quantization cases of ONNX's own node tests come out exactly (see `onnx-node/README.md`).
//!
//! QuantizeLinear, DequantizeLinear and DynamicQuantizeLinear are this crate's quantization on numbers, with the parameters of each
//! element's axis or block. Products are models of one node under [`Rules::OnnxRuntime`]; unsigned codes become int8 by
//! subtracting 128, zero point included, and MatMulInteger and ConvInteger get an output of scale 1.

use std::{fs, path::Path};

use prost::Message;
use qat_formats::onnx::{self, DataType, Node as OnnxNode, Tensor};
use qat_runtime::{
    Clamp, Codes, Conv2d, IntegerModel, MatMul, Node, Op, PackedCodes, QParams, Rules, ValueId, ValueInfo, Weights, dequantize,
    quantize_within,
};

/// A case: its operator and tensors.
struct Case {
    name: String,
    node: OnnxNode,
    inputs: Vec<Tensor>,
    outputs: Vec<Tensor>,
}

fn integers(tensor: &Tensor) -> Vec<i32> {
    let wide = tensor.to_i64s().unwrap_or_else(|| panic!("{} holds integers", tensor.name()));
    wide.into_iter().map(|value| value.try_into().expect("at most 32 bits")).collect()
}

fn reals(tensor: &Tensor) -> Vec<f32> {
    tensor.to_f32s().unwrap_or_else(|| panic!("{} holds floats", tensor.name()))
}

fn shape(tensor: &Tensor) -> Vec<usize> {
    tensor.dims.iter().map(|&size| size.try_into().expect("a size")).collect()
}

/// Lowest and highest code.
fn range(data_type: DataType) -> (i32, i32) {
    let bits = data_type.bits().expect("integers have bits");
    match data_type {
        DataType::Int2 | DataType::Int4 | DataType::Int8 | DataType::Int16 => (-(1 << (bits - 1)), (1 << (bits - 1)) - 1),
        DataType::Uint2 | DataType::Uint4 | DataType::Uint8 | DataType::Uint16 => (0, (1 << bits) - 1),
        other => panic!("{other:?} is no quantized type"),
    }
}

impl Case {
    fn read(folder: &Path) -> Self {
        let bytes = |name: &str| fs::read(folder.join(name));
        let tensors = |kind: &str| -> Vec<Tensor> {
            let files = (0..).map_while(|index| bytes(&format!("{kind}_{index}.pb")).ok());
            files.map(|bytes| Tensor::decode(bytes.as_slice()).expect("a tensor")).collect()
        };
        let name = folder.file_name().expect("a folder").to_string_lossy().into_owned();
        let model = onnx::read(&bytes("model.onnx").expect("readable")).unwrap_or_else(|error| panic!("{name}: {error}"));
        let mut node = model.graph.expect("a graph").node.swap_remove(0);
        if name.ends_with("_expanded") {
            // The graph is the operator's definition in terms of others; the tensors are those of the operator.
            node = OnnxNode::new("DynamicQuantizeLinear", "", &[], &[]);
        }
        Self { name, node, inputs: tensors("input"), outputs: tensors("output") }
    }

    fn int(&self, attribute: &str, default: i64) -> i64 {
        self.node.attribute(attribute).and_then(|attribute| attribute.i).unwrap_or(default)
    }

    /// Which entry of the scale and zero point belongs to each element: the only one, that of its position on the axis, or
    /// that of its block along the axis.
    fn parameter_of_element(&self) -> Vec<usize> {
        let (x, scale) = (shape(&self.inputs[0]), shape(&self.inputs[1]));
        let axis = self.int("axis", 1) as usize;
        let block = self.int("block_size", 0) as usize;
        let count: usize = x.iter().product();
        if scale.iter().product::<usize>() == 1 {
            return vec![0; count];
        }
        let inner: usize = x[axis + 1..].iter().product();
        (0..count)
            .map(|at| {
                let position = at / inner % x[axis];
                match block {
                    0 => position,
                    _ => (at / (inner * x[axis]) * scale[axis] + position / block) * inner + at % inner,
                }
            })
            .collect()
    }

    /// Scale and zero point of every element.
    fn parameters(&self) -> Vec<QParams> {
        let scales = reals(&self.inputs[1]);
        let zeros = self.inputs.get(2).map_or_else(|| vec![0; scales.len()], integers);
        let qparams = |at: usize| QParams { scale: scales[at], zero_point: if zeros.len() == 1 { zeros[0] } else { zeros[at] } };
        self.parameter_of_element().into_iter().map(qparams).collect()
    }

    /// Asserts what the operator gives.
    fn check(&self) {
        match self.node.op_type() {
            "QuantizeLinear" => {
                let (low, high) = range(self.outputs[0].element_type().expect("a type"));
                let pairs = reals(&self.inputs[0]).into_iter().zip(self.parameters());
                let found: Vec<i32> = pairs.map(|(x, qparams)| quantize_within(x, qparams, low, high)).collect();
                assert_eq!(found, integers(&self.outputs[0]), "{}", self.name);
            }
            "DequantizeLinear" => {
                let pairs = integers(&self.inputs[0]).into_iter().zip(self.parameters());
                let found: Vec<u32> = pairs.map(|(q, qparams)| dequantize(q, qparams).to_bits()).collect();
                let expected: Vec<u32> = reals(&self.outputs[0]).into_iter().map(f32::to_bits).collect();
                assert_eq!(found, expected, "{}", self.name);
            }
            "DynamicQuantizeLinear" => self.check_dynamic(),
            "QLinearMatMul" => {
                let [a, b, y] = [0, 3, 6].map(|first| self.operand(first));
                assert_eq!(product(a, b, y.1, None), self.expected(), "{}", self.name);
            }
            // A kernel of 1 × 1 on one channel is a product with a 1 × 1 matrix. As a convolution its weight, 0 with zero point 255,
            // would be −255, which no symmetric int8 weight is.
            "QLinearConv" => {
                let [(x, qx), (w, qw), (_, qy)] = [0, 3, 6].map(|first| self.operand(first));
                assert_eq!((shape(&self.inputs[3]).as_slice(), x.len()), ([1, 1, 1, 1].as_slice(), 49));
                assert_eq!(product((x, qx), (w, qw), qy, Some([49, 1, 1])), self.expected(), "{}", self.name);
            }
            "MatMulInteger" => {
                let unit = |at: usize, zero: usize| (self.codes(at), self.unit(zero));
                let found = product(unit(0, 2), unit(1, 3), QParams { scale: 1.0, zero_point: 0 }, Some([4, 3, 2]));
                assert_eq!(found, integers(&self.outputs[0]), "{}", self.name);
            }
            "ConvInteger" => self.check_conv_integer(),
            other => panic!("{}: {other} is not computed", self.name),
        }
    }

    /// Range → scale → zero point → codes, each of uint8.
    fn check_dynamic(&self) {
        let x = reals(&self.inputs[0]);
        let (low, high) = x.iter().fold((0f32, 0f32), |(low, high), &x| (low.min(x), high.max(x)));
        let scale = (high - low) / 255.0;
        let zero_point = quantize_within(0.0 - low, QParams { scale, zero_point: 0 }, 0, 255);
        let found: Vec<i32> = x.iter().map(|&x| quantize_within(x, QParams { scale, zero_point }, 0, 255)).collect();
        assert_eq!(found, integers(&self.outputs[0]), "{}", self.name);
        assert_eq!(reals(&self.outputs[1])[0].to_bits(), scale.to_bits(), "{}", self.name);
        assert_eq!(integers(&self.outputs[2]), [zero_point], "{}", self.name);
    }

    /// What makes int8 codes of the codes of an input.
    fn offset(&self, input: usize) -> i32 {
        if self.inputs[input].element_type() == Some(DataType::Uint8) { 128 } else { 0 }
    }

    fn codes(&self, input: usize) -> Vec<i8> {
        integers(&self.inputs[input]).into_iter().map(|q| (q - self.offset(input)) as i8).collect()
    }

    /// Steps of 1 around the zero point in an input.
    fn unit(&self, zero: usize) -> QParams {
        QParams { scale: 1.0, zero_point: integers(&self.inputs[zero])[0] - self.offset(zero) }
    }

    /// Codes, scale and zero point of three inputs in a row; for the output, `first` is its scale.
    fn operand(&self, first: usize) -> (Vec<i8>, QParams) {
        let (codes, scale) = if first == 6 { (vec![], 6) } else { (self.codes(first), first + 1) };
        (codes, QParams { scale: reals(&self.inputs[scale])[0], ..self.unit(scale + 1) })
    }

    /// The output as int8 codes.
    fn expected(&self) -> Vec<i32> {
        let offset = if self.outputs[0].element_type() == Some(DataType::Uint8) { 128 } else { 0 };
        integers(&self.outputs[0]).into_iter().map(|q| q - offset).collect()
    }

    fn check_conv_integer(&self) {
        let (x, w) = (shape(&self.inputs[0]), shape(&self.inputs[1]));
        let pads = self.node.attribute("pads").map_or_else(|| vec![0; 4], |pads| pads.ints.clone());
        let padding: Vec<usize> = pads.into_iter().map(|side| side.try_into().expect("a size")).collect();
        let zeros = self.inputs.get(3).map_or_else(|| vec![0; w[0]], integers);
        let row: usize = w[1..].iter().product();
        let centred = integers(&self.inputs[1]).into_iter().enumerate().map(|(at, q)| (q - zeros[at / row]) as i8);
        let op = Conv2d {
            name: self.name.clone(),
            weights: Weights {
                codes: PackedCodes::eight(&centred.collect::<Vec<_>>()),
                scale: vec![1.0; w[0]],
                bias: vec![0; w[0]],
            },
            c_out: w[0],
            c_in: w[1],
            kernel: [w[2], w[3]],
            stride: [1, 1],
            padding: padding.try_into().expect("four sides"),
            dilation: [1, 1],
            groups: 1,
            clamp: Clamp::INT8,
        };
        let y = op.output_shape(&x[1..]).expect("fits");
        let values =
            vec![ValueInfo::int8("x", &x[1..], self.unit(2)), ValueInfo::int8("y", &y, QParams { scale: 1.0, zero_point: 0 })];
        let nodes = vec![Node { op: Op::Conv2d(op), inputs: vec![ValueId(0)], output: ValueId(1) }];
        let model = IntegerModel { rules: Rules::OnnxRuntime, values, nodes, input: ValueId(0), output: ValueId(1) };
        assert_eq!(run(&model, &self.codes(0)), integers(&self.outputs[0]), "{}", self.name);
    }
}

/// Output codes, the same from both kernels.
fn run(model: &IntegerModel, codes: &[i8]) -> Vec<i32> {
    let found = model.run(codes).expect("valid").to_i32s();
    assert_eq!(model.run_reference(codes).expect("valid").to_i32s(), found);
    found
}

/// Codes of `a · b`. Sides `[m, k, n]`, where they are not those of the 2 × 4 by 4 × 3 products of the QLinearMatMul cases, of which
/// the second operand has one or two.
fn product((a, qa): (Vec<i8>, QParams), (b, qb): (Vec<i8>, QParams), qy: QParams, sides: Option<[usize; 3]>) -> Vec<i32> {
    let [m, k, n] = sides.unwrap_or([2, 4, 3]);
    let batch = b.len() / (k * n);
    let values = vec![
        ValueInfo::int8("a", &[batch, m, k], qa),
        ValueInfo::int8("b", &[batch, k, n], qb),
        ValueInfo::int8("y", &[batch, m, n], qy),
    ];
    let product = Op::MatMul(MatMul { transpose_rhs: false, clamp: Clamp::INT8 });
    let nodes = vec![
        Node { op: Op::Constant(Codes::Int8(b)), inputs: vec![], output: ValueId(1) },
        Node { op: product, inputs: vec![ValueId(0), ValueId(1)], output: ValueId(2) },
    ];
    let model = IntegerModel { rules: Rules::OnnxRuntime, values, nodes, input: ValueId(0), output: ValueId(2) };
    run(&model, &a)
}

#[test]
fn every_case_comes_out_exactly() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/onnx-node");
    let entries = fs::read_dir(&root).expect("a folder").map(|entry| entry.expect("readable").path());
    let mut folders: Vec<_> = entries.filter(|path| path.is_dir()).collect();
    folders.sort();
    for folder in &folders {
        Case::read(folder).check();
    }
    assert_eq!(folders.len(), 37);
}
