//! Models to write: one that runs, one with every table of options, and generated ones.

use qat_formats::tflite::*;

/// `y = W x + b` in int8, three inputs and two outputs: W of scales 0.5 and 0.25, x of scale 0.5, y of scale 0.5 and zero point
/// 3.
pub fn fully_connected() -> Model {
    let mut model = Model { description: "test".to_owned(), ..Model::default() };
    let weight = model.add_buffer([1i8, -2, 3, -4, 5, -6].map(i8::cast_unsigned).to_vec());
    let bias = model.add_buffer([8i32, -16].iter().flat_map(|value| value.to_le_bytes()).collect());
    let quantized = |scale: &[f32], zero_point: &[i64]| {
        let (scale, zero_point) = (scale.to_vec(), zero_point.to_vec());
        Some(QuantizationParameters { scale, zero_point, ..QuantizationParameters::default() })
    };
    let tensor = |name: &str, r#type, shape: &[i32], buffer, quantization| Tensor {
        name: name.to_owned(),
        r#type,
        shape: shape.to_vec(),
        buffer,
        quantization,
        ..Tensor::default()
    };
    let input = Tensor { shape_signature: vec![-1, 3], ..tensor("x", TensorType::INT8, &[1, 3], 0, quantized(&[0.5], &[0])) };
    let opcode_index = model.intern_operator(OperatorCode::builtin(BuiltinOperator::FULLY_CONNECTED, 5));
    model.subgraphs.push(SubGraph {
        tensors: vec![
            input,
            tensor("w", TensorType::INT8, &[2, 3], weight, quantized(&[0.5, 0.25], &[0, 0])),
            tensor("b", TensorType::INT32, &[2], bias, quantized(&[0.25, 0.125], &[0, 0])),
            tensor("y", TensorType::INT8, &[1, 2], 0, quantized(&[0.5], &[3])),
        ],
        inputs: vec![0],
        outputs: vec![3],
        operators: vec![Operator {
            opcode_index,
            inputs: vec![0, 1, 2],
            outputs: vec![3],
            builtin_options: FullyConnectedOptions::default().into(),
            ..Operator::default()
        }],
        name: "main".to_owned(),
        ..SubGraph::default()
    });
    model
}

/// Every table of options once, each field other than its default.
pub fn every_option() -> Vec<BuiltinOptions> {
    use ActivationFunctionType as A;
    let (padding, int16) = (Padding::VALID, TensorType::INT16);
    let conv = Conv2DOptions {
        padding,
        stride_w: 2,
        stride_h: 3,
        fused_activation_function: A::RELU,
        dilation_w_factor: 4,
        dilation_h_factor: 5,
        quantized_bias_type: TensorType::INT32,
    };
    let depthwise = DepthwiseConv2DOptions {
        padding,
        stride_w: 2,
        stride_h: 3,
        depth_multiplier: 4,
        fused_activation_function: A::RELU6,
        dilation_w_factor: 5,
        dilation_h_factor: 6,
    };
    let pool = Pool2DOptions {
        padding,
        stride_w: 2,
        stride_h: 3,
        filter_width: 4,
        filter_height: 5,
        fused_activation_function: A::RELU_N1_TO_1,
    };
    let fully_connected = FullyConnectedOptions {
        fused_activation_function: A::TANH,
        weights_format: WeightsFormat::SHUFFLED4X16INT8,
        keep_num_dims: true,
        asymmetric_quantize_inputs: true,
        quantized_bias_type: TensorType::INT64,
    };
    let lstm = LstmOptions {
        fused_activation_function: A::TANH,
        cell_clip: 1.5,
        proj_clip: 2.5,
        kernel_type: LstmKernelType::BASIC,
        asymmetric_quantize_inputs: true,
    };
    let sequence_lstm = UnidirectionalSequenceLstmOptions {
        fused_activation_function: A::TANH,
        cell_clip: 1.5,
        proj_clip: 2.5,
        time_major: true,
        asymmetric_quantize_inputs: true,
        diagonal_recurrent_tensors: true,
    };
    let strided_slice =
        StridedSliceOptions { begin_mask: 1, end_mask: 2, ellipsis_mask: 3, new_axis_mask: 4, shrink_axis_mask: 5, offset: true };
    let transpose_conv = TransposeConvOptions {
        padding,
        stride_w: 2,
        stride_h: 3,
        fused_activation_function: A::RELU,
        quantized_bias_type: TensorType::INT32,
    };
    // The two deprecated fields of the bilinear resize keep their default: LiteRT's code does not know them.
    let bilinear = ResizeBilinearOptions { align_corners: true, half_pixel_centers: true, ..ResizeBilinearOptions::default() };
    vec![
        conv.into(),
        depthwise.into(),
        pool.into(),
        fully_connected.into(),
        SoftmaxOptions { beta: 0.5 }.into(),
        ConcatenationOptions { axis: -1, fused_activation_function: A::RELU }.into(),
        AddOptions { fused_activation_function: A::RELU, pot_scale_int16: false }.into(),
        L2NormOptions { fused_activation_function: A::SIGN_BIT }.into(),
        lstm.into(),
        bilinear.into(),
        ReshapeOptions { new_shape: vec![-1, 2, 3] }.into(),
        SpaceToDepthOptions { block_size: 2 }.into(),
        MulOptions { fused_activation_function: A::RELU }.into(),
        GatherOptions { axis: 1, batch_dims: 2 }.into(),
        ReducerOptions { keep_dims: true }.into(),
        SubOptions { fused_activation_function: A::RELU, pot_scale_int16: false }.into(),
        DivOptions { fused_activation_function: A::RELU }.into(),
        SqueezeOptions { squeeze_dims: vec![0, 2] }.into(),
        strided_slice.into(),
        SplitOptions { num_splits: 3 }.into(),
        CastOptions { in_data_type: TensorType::INT4, out_data_type: TensorType::FLOAT64 }.into(),
        ArgMaxOptions { output_type: TensorType::INT64 }.into(),
        transpose_conv.into(),
        ShapeOptions { out_type: TensorType::INT64 }.into(),
        ArgMinOptions { output_type: int16 }.into(),
        FakeQuantOptions { min: -1.5, max: 2.5, num_bits: 8, narrow_range: true }.into(),
        PackOptions { values_count: 2, axis: 1 }.into(),
        UnpackOptions { num: 2, axis: 1 }.into(),
        sequence_lstm.into(),
        ResizeNearestNeighborOptions { align_corners: true, half_pixel_centers: true }.into(),
        LeakyReluOptions { alpha: 0.25 }.into(),
        MirrorPadOptions { mode: MirrorPadMode::SYMMETRIC }.into(),
        SplitVOptions { num_splits: 4 }.into(),
        DepthToSpaceOptions { block_size: 3 }.into(),
        BatchMatMulOptions { adj_x: true, adj_y: true, asymmetric_quantize_inputs: true }.into(),
        CumsumOptions { exclusive: true, reverse: true }.into(),
        GeluOptions { approximate: true }.into(),
        BuiltinOptions::Pad,
        BuiltinOptions::BatchToSpaceNd,
        BuiltinOptions::SpaceToBatchNd,
        BuiltinOptions::Transpose,
        BuiltinOptions::Exp,
        BuiltinOptions::TopKV2,
        BuiltinOptions::LogSoftmax,
        BuiltinOptions::Dequantize,
        BuiltinOptions::MaximumMinimum,
        BuiltinOptions::Less,
        BuiltinOptions::Neg,
        BuiltinOptions::PadV2,
        BuiltinOptions::Greater,
        BuiltinOptions::GreaterEqual,
        BuiltinOptions::LessEqual,
        BuiltinOptions::Select,
        BuiltinOptions::Slice,
        BuiltinOptions::Tile,
        BuiltinOptions::ExpandDims,
        BuiltinOptions::Equal,
        BuiltinOptions::NotEqual,
        BuiltinOptions::Pow,
        BuiltinOptions::LogicalOr,
        BuiltinOptions::LogicalAnd,
        BuiltinOptions::LogicalNot,
        BuiltinOptions::FloorDiv,
        BuiltinOptions::Square,
        BuiltinOptions::ZerosLike,
        BuiltinOptions::Fill,
        BuiltinOptions::FloorMod,
        BuiltinOptions::Range,
        BuiltinOptions::SquaredDifference,
        BuiltinOptions::Abs,
        BuiltinOptions::ReverseV2,
        BuiltinOptions::AddN,
        BuiltinOptions::GatherNd,
        BuiltinOptions::Cos,
        BuiltinOptions::Where,
        BuiltinOptions::Rank,
        BuiltinOptions::Quantize,
        BuiltinOptions::HardSwish,
        BuiltinOptions::SelectV2,
        BuiltinOptions::BroadcastTo,
        BuiltinOptions::None,
    ]
}

/// A model that holds something in every field of every struct: all options in a chain of operators, and the rest beside them.
pub fn everything() -> Model {
    let mut model = fully_connected();
    let metadata = model.add_buffer(b"1.14.0".to_vec());
    model.metadata.push(Metadata { name: "min_runtime_version".to_owned(), buffer: metadata, unread: Vec::new() });
    model.metadata_buffer = vec![0, 2];
    let map = |name: &str, tensor_index| TensorMap { name: name.to_owned(), tensor_index, unread: Vec::new() };
    model.signature_defs.push(SignatureDef {
        inputs: vec![map("in", 0)],
        outputs: vec![map("out", 3)],
        signature_key: "serving_default".to_owned(),
        subgraph_index: 0,
        unread: Vec::new(),
    });
    let custom = model.intern_operator(OperatorCode {
        builtin_code: BuiltinOperator::CUSTOM,
        custom_code: "Mystery".to_owned(),
        version: 2,
        unread: Vec::new(),
    });
    let gelu = model.intern_operator(OperatorCode::builtin(BuiltinOperator::GELU, 1));
    let empty = model.add_buffer(Vec::new());
    let packed = model.add_buffer(vec![0x21, 0x03]);
    let mut subgraph = SubGraph { name: "second".to_owned(), debug_metadata_index: 4, ..SubGraph::default() };
    subgraph.tensors = vec![
        Tensor { shape: vec![3], r#type: TensorType::INT4, buffer: packed, has_rank: true, ..Tensor::default() },
        Tensor { shape: vec![0, 5], r#type: TensorType::INT32, buffer: empty, ..Tensor::default() },
        Tensor { shape: Vec::new(), is_variable: true, ..Tensor::default() },
        Tensor {
            shape: vec![2, 3],
            quantization: Some(QuantizationParameters {
                min: vec![-1.0, -2.0, -3.0],
                max: vec![1.0, 2.0, 3.0],
                scale: vec![0.5, 0.25, 0.125],
                zero_point: vec![-128, 0, 127],
                quantized_dimension: 1,
                unread: Vec::new(),
            }),
            ..Tensor::default()
        },
    ];
    subgraph.inputs = vec![3];
    for builtin_options in every_option() {
        let last = subgraph.tensors.len() as i32 - 1;
        subgraph.tensors.push(Tensor { shape: vec![2, 3], r#type: TensorType::FLOAT16, ..Tensor::default() });
        let (inputs, outputs) = (vec![last, -1, 0], vec![last + 1]);
        subgraph.operators.push(Operator { opcode_index: gelu, inputs, outputs, builtin_options, ..Operator::default() });
    }
    let last = subgraph.tensors.len() as i32 - 1;
    subgraph.operators.push(Operator {
        opcode_index: custom,
        inputs: vec![last, 1, 2],
        outputs: vec![2],
        custom_options: vec![1, 2, 3],
        custom_options_format: 1,
        mutating_variable_inputs: vec![false, false, true],
        intermediates: vec![0],
        debug_metadata_index: 7,
        ..Operator::default()
    });
    subgraph.outputs = vec![2, last];
    model.subgraphs.push(subgraph);
    model
}

/// Numbers to build a model from: the given ones, over and over.
struct Choices<'c> {
    given: &'c [u32],
    next: usize,
}

impl Choices<'_> {
    /// A number below `end`.
    fn below(&mut self, end: usize) -> usize {
        let choice = self.given.get(self.next % self.given.len().max(1)).copied().unwrap_or(0);
        self.next += 1;
        // The position is mixed in, so that few given numbers still make many different choices.
        (choice as usize).wrapping_add(self.next * self.next / 7) % end
    }

    fn coin(&mut self) -> bool {
        self.below(2) == 1
    }

    fn text(&mut self) -> String {
        ["", "a", "conv2d/BiasAdd;Relu", "größe"][self.below(4)].to_owned()
    }
}

/// A model whose parts fit together, of constants, operators and tensors as `given` says; equal numbers give equal models.
pub fn generated(given: &[u32]) -> Model {
    let choices = &mut Choices { given, next: 0 };
    let mut model = Model { description: choices.text(), ..Model::default() };
    let options = every_option();
    for _ in 0..1 + choices.below(3) {
        let number = choices.below(210) as i32;
        let builtin_code = BuiltinOperator(number);
        let custom_code = if builtin_code == BuiltinOperator::CUSTOM { "custom" } else { "" }.to_owned();
        let version = choices.below(6) as i32;
        model.operator_codes.push(OperatorCode { builtin_code, custom_code, version, unread: Vec::new() });
    }
    for _ in 0..1 + choices.below(2) {
        let mut subgraph = SubGraph { name: choices.text(), ..SubGraph::default() };
        for _ in 0..1 + choices.below(5) {
            let tensor = generated_tensor(choices, &mut model);
            subgraph.tensors.push(tensor);
        }
        let defined = |model: &Model, tensor: &Tensor| {
            tensor.is_variable || !model.data(tensor).is_empty() || tensor.buffer != 0 && tensor.element_count() == Some(0)
        };
        let constant: Vec<bool> = subgraph.tensors.iter().map(|tensor| defined(&model, tensor)).collect();
        let indices = |wanted: bool| (0..constant.len() as i32).filter(move |&index| constant[index as usize] == wanted);
        subgraph.inputs = indices(false).collect();
        let mut readable: Vec<i32> = (0..subgraph.tensors.len() as i32).collect();
        for _ in 0..choices.below(6) {
            let inputs = (0..choices.below(4)).map(|_| match choices.below(8) {
                0 => -1,
                _ => readable[choices.below(readable.len())],
            });
            let inputs: Vec<i32> = inputs.collect();
            let output = subgraph.tensors.len() as i32;
            subgraph.tensors.push(Tensor { shape: vec![1, 4], name: choices.text(), ..Tensor::default() });
            readable.push(output);
            subgraph.operators.push(Operator {
                opcode_index: choices.below(model.operator_codes.len()) as u32,
                mutating_variable_inputs: if choices.coin() { vec![true; inputs.len()] } else { Vec::new() },
                inputs,
                outputs: vec![output],
                builtin_options: options[choices.below(options.len())].clone(),
                custom_options: vec![7; choices.below(40)],
                custom_options_format: choices.below(2) as i8,
                intermediates: (0..choices.below(3)).map(|_| 0).collect(),
                debug_metadata_index: choices.below(3) as i32 - 1,
                unread: Vec::new(),
            });
        }
        subgraph.outputs = (0..choices.below(3)).map(|_| readable[choices.below(readable.len())]).collect();
        model.subgraphs.push(subgraph);
    }
    for index in 0..choices.below(3) {
        let tensors = model.subgraphs[0].tensors.len();
        let map = |index: usize| TensorMap { name: format!("t{index}"), tensor_index: index as u32, unread: Vec::new() };
        model.signature_defs.push(SignatureDef {
            inputs: (0..choices.below(tensors)).map(map).collect(),
            outputs: (0..choices.below(tensors)).map(map).collect(),
            signature_key: format!("s{index}"),
            subgraph_index: 0,
            unread: Vec::new(),
        });
        let buffer = model.add_buffer(choices.text().into_bytes());
        model.metadata.push(Metadata { name: choices.text(), buffer, unread: Vec::new() });
    }
    model
}

/// A tensor with or without elements, quantized or not.
fn generated_tensor(choices: &mut Choices, model: &mut Model) -> Tensor {
    let shape: Vec<i32> = (0..choices.below(4)).map(|_| choices.below(5) as i32).collect();
    let mut tensor = Tensor {
        r#type: TensorType(choices.below(23) as i8),
        name: choices.text(),
        is_variable: choices.below(8) == 0,
        has_rank: choices.coin(),
        shape_signature: if choices.below(4) == 0 { vec![-1; shape.len()] } else { Vec::new() },
        shape,
        ..Tensor::default()
    };
    if let (true, Some(bytes)) = (choices.coin(), tensor.byte_count()) {
        tensor.buffer = model.add_buffer((0..bytes).map(|index| (index * 7) as u8).collect());
    }
    if choices.coin() {
        let dimension = choices.below(tensor.shape.len().max(1));
        let scales = match tensor.shape.get(dimension) {
            Some(&size) if size > 0 && choices.coin() => size as usize,
            _ => choices.below(2),
        };
        tensor.quantization = Some(QuantizationParameters {
            min: vec![-1.0; scales],
            max: vec![1.0; scales],
            scale: (0..scales).map(|index| 0.5 / (index + 1) as f32).collect(),
            zero_point: if choices.coin() { vec![-1; scales] } else { Vec::new() },
            quantized_dimension: dimension as i32,
            unread: Vec::new(),
        });
    }
    tensor
}
