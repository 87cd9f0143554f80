//! TFLite files by themselves: what is in them, what is refused, and that what is written is read again.

mod models;

use models::{Builder, Clamp, Draw, Random, Window, exact, input_codes, mlp, operations, residual};
use qat_export::{
    Edges, ExportError, Target, TfliteError, TfliteForm, TfliteOptions, for_target, from_tflite, read_tflite, tflite_axes,
    tflite_obstacles, to_tflite, with_rules, write_tflite,
};
use qat_formats::tflite::{self, BuiltinOperator, BuiltinOptions, Model, TensorType};
use qat_runtime::{CodeType, Codes, IntegerModel, Op, Rules, WeightBits};

const RULES: [Rules; 3] = [Rules::LiteRt, Rules::LiteRtReference, Rules::TfliteMicro];

fn file(model: &IntegerModel, options: &TfliteOptions) -> Model {
    to_tflite(model, options).unwrap()
}

fn operators(file: &Model) -> Vec<BuiltinOperator> {
    file.subgraphs[0].operators.iter().map(|operator| file.operator_code(operator).unwrap().builtin_code).collect()
}

/// Every operation that the format has, in every code type and width of weights that the rules have.
fn every_model(rules: Rules) -> Vec<(&'static str, IntegerModel)> {
    let mut models = Vec::new();
    for code_type in [CodeType::Int8, CodeType::Int16] {
        for bits in WeightBits::ALL {
            for per_tensor in [false, true] {
                let draw = Draw { code_type, bits, per_tensor, ..Draw::int8(rules) };
                models.extend(operations(11, draw));
            }
        }
    }
    models.extend([("residual", residual(1)), ("exact", exact(1)), ("mlp", mlp(1))]);
    let lowered = models.into_iter().filter_map(|(name, model)| Some((name, with_rules(&model, rules).ok()?)));
    lowered.filter(|(_, model)| tflite_obstacles(model, &TfliteOptions::default()).unwrap().is_empty()).collect()
}

#[test]
fn equal_models_give_equal_bytes_that_a_reader_takes() {
    for rules in RULES {
        for (name, model) in every_model(rules) {
            for form in [TfliteForm::Integer, TfliteForm::DynamicRange, TfliteForm::Float16] {
                for edges in [Edges::Codes, Edges::Float32] {
                    let options = TfliteOptions { form, edges };
                    let [bytes, again] = [(); 2].map(|()| tflite::write(&file(&model.clone(), &options)).unwrap());
                    assert_eq!(bytes, again, "{name}");
                    // The reader checks indices, shapes, lengths and order.
                    assert_eq!(tflite::read(&bytes).unwrap(), file(&model, &options), "{name}");
                }
            }
        }
    }
}

#[test]
fn a_file_is_replaced_as_a_whole() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("model.tflite");
    let model = for_target(&mlp(0), Target::Tflm).unwrap();
    write_tflite(&model, &TfliteOptions::default(), &path).unwrap();
    let bytes = tflite::write(&file(&model, &TfliteOptions::default())).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
    let read = read_tflite(&path, Rules::TfliteMicro).unwrap();
    assert_eq!(read.output_info().shape, [10]);
    let error = read_tflite(directory.path(), Rules::TfliteMicro).unwrap_err();
    assert!(matches!(error, ExportError::NotAFile { .. }), "{error}");
}

/// Samples with their axes in the order of the file.
fn in_file(codes: &Codes, shape: &[usize], axes: &[usize]) -> Vec<i32> {
    let codes = codes.to_i32s();
    let count: usize = shape.iter().product();
    let strides: Vec<usize> = (0..shape.len()).map(|axis| shape[axis + 1..].iter().product()).collect();
    let source = |at: usize| {
        let (mut rest, mut source) = (at % count, at / count * count);
        for &axis in axes.iter().rev() {
            source += rest % shape[axis] * strides[axis];
            rest /= shape[axis];
        }
        source
    };
    (0..codes.len()).map(|at| codes[source(at)]).collect()
}

#[test]
fn what_is_written_is_read_as_a_model_that_computes_the_same() {
    for rules in RULES {
        for (name, model) in every_model(rules) {
            for edges in [Edges::Codes, Edges::Float32, Edges::Uint8] {
                let options = TfliteOptions { edges, ..TfliteOptions::default() };
                if edges == Edges::Uint8 && !tflite_obstacles(&model, &options).unwrap().is_empty() {
                    continue;
                }
                let bytes = tflite::write(&file(&model, &options)).unwrap();
                let read = from_tflite(&bytes, rules).unwrap_or_else(|error| panic!("{name} {edges:?}: {error}"));
                let axes = tflite_axes(&model);
                let (x, y) = (model.input_info(), model.output_info());
                let codes = input_codes(&model, 3, &mut Random(5));
                let turned = in_file(&codes, &x.shape, &axes.input);
                let turned = match codes {
                    Codes::Int8(_) => Codes::Int8(turned.into_iter().map(|code| code as i8).collect()),
                    Codes::Int16(_) => Codes::Int16(turned.into_iter().map(|code| code as i16).collect()),
                    Codes::Int32(_) => Codes::Int32(turned),
                };
                let expected = in_file(&model.run(&codes).unwrap(), &y.shape, &axes.output);
                assert_eq!(read.run(&turned).unwrap().to_i32s(), expected, "{name}, {edges:?}, {rules}");

                // A model that was read is written as the file that it was read from, and read as itself.
                if edges == Edges::Codes {
                    let again = file(&read, &options);
                    assert_eq!(operators(&again), operators(&file(&model, &options)), "{name}, {rules}");
                    let bytes = tflite::write(&again).unwrap();
                    assert_eq!(from_tflite(&bytes, rules).unwrap(), read, "{name}, {rules}");
                }
            }
        }
    }
}

#[test]
fn images_are_not_turned_inside_a_network() {
    for (model, name) in [(residual(2), "residual"), (mlp(2), "mlp")] {
        let model = for_target(&model, Target::Tflite).unwrap();
        let file = file(&model, &TfliteOptions::default());
        assert!(!operators(&file).contains(&BuiltinOperator::TRANSPOSE), "{name}: {:?}", operators(&file));
        let graph = &file.subgraphs[0];
        let input = &graph.tensors[graph.inputs[0] as usize];
        let &[c, h, w] = model.input_info().shape.as_slice() else { panic!("an image") };
        assert_eq!(input.shape, [1, h, w, c].map(|size| size as i32), "{name}");
        assert_eq!(input.shape_signature, [-1, h as i32, w as i32, c as i32], "{name}");
        assert_eq!(input.name, "input");
    }
}

#[test]
fn a_flattened_image_costs_no_transpose() {
    let (mut b, x) = Builder::with(3, Draw::int8(Rules::TfliteMicro), &[3, 4, 5]);
    let flat = b.reshape("flat", x, &[60]);
    let y = b.linear("fc", flat, 7, Clamp::None);
    let model = b.finish(y);
    let file = file(&model, &TfliteOptions::default());
    assert_eq!(operators(&file), [BuiltinOperator::RESHAPE, BuiltinOperator::FULLY_CONNECTED]);
    // Element (c, h, w) = (1, 2, 3) is column 1 · 20 + 2 · 5 + 3 of the model and (2 · 5 + 3) · 3 + 1 of the file.
    let Op::Linear(op) = &model.nodes[1].op else { panic!("a linear layer") };
    let weight = file.subgraphs[0].tensors.iter().find(|tensor| tensor.name == "fc.weight").unwrap();
    assert_eq!(weight.shape, [7, 60]);
    assert_eq!(file.data(weight)[60 + 40].cast_signed(), op.weights.codes.get(60 + 33));
}

#[test]
fn layouts_of_weights() {
    let (mut b, x) = Builder::with(4, Draw::int8(Rules::TfliteMicro), &[4, 6, 6]);
    let x = b.conv("plain", x, 8, 1, Window::same(3, 1), Clamp::Relu);
    let y = b.conv("depth", x, 16, 8, Window::same(3, 2), Clamp::Range(-100, 90));
    let model = b.finish(y);
    let file = file(&model, &TfliteOptions::default());
    use BuiltinOperator as B;
    assert_eq!(operators(&file), [B::CONV_2D, B::PAD, B::DEPTHWISE_CONV_2D, B::MAXIMUM, B::MINIMUM]);
    let tensor = |name: &str| file.subgraphs[0].tensors.iter().find(|tensor| tensor.name == name).unwrap();
    let quantization = |name: &str| tensor(name).quantization.clone().unwrap();
    let [plain, depth] = [0, 1].map(|at| match &model.nodes[at].op {
        Op::Conv2d(op) => op,
        _ => panic!("a convolution"),
    });
    // [c_out, h, w, c_in] and [1, h, w, c_out].
    assert_eq!(
        (tensor("plain.weight").shape.as_slice(), tensor("depth.weight").shape.as_slice()),
        (&[8, 3, 3, 4][..], &[1, 3, 3, 16][..])
    );
    assert_eq!((quantization("plain.weight").quantized_dimension, quantization("depth.weight").quantized_dimension), (0, 3));
    let (o, i, h, w) = (5, 2, 1, 2);
    assert_eq!(
        file.data(tensor("plain.weight"))[((o * 3 + h) * 3 + w) * 4 + i].cast_signed(),
        plain.weights.codes.get(((o * 4 + i) * 3 + h) * 3 + w)
    );
    assert_eq!(
        file.data(tensor("depth.weight"))[(h * 3 + w) * 16 + o].cast_signed(),
        depth.weights.codes.get((o * 3 + h) * 3 + w)
    );
    // Biases have the scale of sums.
    let s_in = model.values[model.nodes[1].inputs[0].0].qparams.scale;
    assert_eq!(quantization("depth.bias").scale[3], s_in * depth.weights.scale[3]);
    assert_eq!((tensor("depth.bias").r#type, tensor("depth.bias").shape.as_slice()), (TensorType::INT32, &[16][..]));
    let BuiltinOptions::DepthwiseConv2D(options) = &file.subgraphs[0].operators[2].builtin_options else { panic!("its options") };
    // At stride 2, SAME would pad the far side alone; the model's padding is written out.
    assert_eq!((options.depth_multiplier, options.stride_h, options.padding), (2, 2, tflite::Padding::VALID));
}

#[test]
fn obstacles_are_found_all_at_once() {
    let (mut b, x) = Builder::with(5, Draw::int8(Rules::LiteRt), &[3, 9, 9]);
    let dilated = Window { dilation: [2, 2], ..Window::same(3, 1) };
    let x = b.max_pool("pool", x, dilated);
    let odd = Window { kernel: [2, 3], stride: [2, 1], padding: [1, 1, 0, 1], dilation: [1, 1] };
    let y = b.avg_pool("average", x, odd, false, 1.0);
    let model = b.finish(y);
    let obstacles = tflite_obstacles(&model, &TfliteOptions::default()).unwrap();
    let places: Vec<&str> = obstacles.iter().map(|obstacle| obstacle.place.as_str()).collect();
    assert_eq!(places, ["max_pool2d of value \"pool\"", "avg_pool2d of value \"average\""]);
    let error = to_tflite(&model, &TfliteOptions::default()).unwrap_err();
    assert_eq!(error.to_string(), format!("TFLite export, {}", obstacles[0]));

    // A model for another runtime, which the float forms do not mind.
    let obstacles = tflite_obstacles(&mlp(0), &TfliteOptions::default()).unwrap();
    assert_eq!((obstacles.len(), obstacles[0].place.as_str()), (1, "model"));
    let options = TfliteOptions { form: TfliteForm::DynamicRange, ..TfliteOptions::default() };
    assert_eq!(tflite_obstacles(&mlp(0), &options).unwrap(), []);

    let (mut b, x) = Builder::with(6, Draw { code_type: CodeType::Int16, ..Draw::int8(Rules::LiteRt) }, &[5]);
    let y = b.relu("relu", x);
    let options = TfliteOptions { edges: Edges::Uint8, ..TfliteOptions::default() };
    assert_eq!(tflite_obstacles(&b.finish(y), &options).unwrap().len(), 2);
}

#[test]
fn narrow_weights_are_packed_where_the_runtime_takes_them() {
    for (rules, bits, expected) in [
        (Rules::LiteRt, WeightBits::Four, TensorType::INT4),
        (Rules::TfliteMicro, WeightBits::Four, TensorType::INT4),
        (Rules::TfliteMicro, WeightBits::Two, TensorType::INT8),
    ] {
        let (mut b, x) = Builder::with(7, Draw { bits, ..Draw::int8(rules) }, &[3, 6, 6]);
        let y = b.conv("conv", x, 4, 1, Window::same(3, 1), Clamp::None);
        let file = file(&b.finish(y), &TfliteOptions::default());
        let weight = file.subgraphs[0].tensors.iter().find(|tensor| tensor.name == "conv.weight").unwrap();
        assert_eq!(weight.r#type, expected, "{rules} {bits:?}");
    }
}

/// A file with one change.
fn changed(change: impl FnOnce(&mut Model)) -> Result<IntegerModel, TfliteError> {
    let model = for_target(&residual(3), Target::Tflm).unwrap();
    let mut file = file(&model, &TfliteOptions::default());
    change(&mut file);
    from_tflite(&tflite::write(&file).unwrap(), Rules::TfliteMicro)
}

fn tensor<'m>(file: &'m mut Model, name: &str) -> &'m mut tflite::Tensor {
    file.subgraphs[0].tensors.iter_mut().find(|tensor| tensor.name == name).unwrap()
}

#[test]
fn files_with_something_else_are_refused_by_name() {
    assert!(changed(|_| {}).is_ok());
    let refused = |expected: &str, change: &dyn Fn(&mut Model)| {
        let error = changed(change).unwrap_err();
        assert!(matches!(error, TfliteError::Unsupported { .. }), "{error}");
        assert!(error.to_string().contains(expected), "{expected}: {error}");
    };
    refused("operator 0 (COS)", &|file| file.operator_codes[0].builtin_code = BuiltinOperator::COS);
    refused("operator 0 (custom \"x\")", &|file| {
        file.operator_codes[0].builtin_code = BuiltinOperator::CUSTOM;
        file.operator_codes[0].custom_code = "x".into();
    });
    refused("operator 0 (CONV_2D): expected the options", &|file| {
        file.subgraphs[0].operators[0].builtin_options = BuiltinOptions::None;
    });
    refused("strides", &|file| {
        let BuiltinOptions::Conv2D(options) = &mut file.subgraphs[0].operators[0].builtin_options else { panic!("options") };
        options.stride_h = 0;
    });
    refused("strides", &|file| {
        let BuiltinOptions::Conv2D(options) = &mut file.subgraphs[0].operators[0].builtin_options else { panic!("options") };
        options.dilation_w_factor = i32::MIN;
    });
    refused("a fused relu or none", &|file| {
        let BuiltinOptions::Conv2D(options) = &mut file.subgraphs[0].operators[0].builtin_options else { panic!("options") };
        options.fused_activation_function = tflite::ActivationFunctionType::TANH;
    });
    refused("an operand more", &|file| file.subgraphs[0].operators[0].inputs.truncate(1));
    refused("one result", &|file| {
        let output = file.subgraphs[0].tensors.len() as i32;
        let extra = file.subgraphs[0].tensors[0].clone();
        file.subgraphs[0].tensors.push(extra);
        file.subgraphs[0].operators[0].outputs.push(output);
    });
    refused("a scale and a zero point", &|file| tensor(file, "input").quantization = None);
    refused("a zero point within int32", &|file| {
        tensor(file, "input").quantization.as_mut().unwrap().zero_point = vec![i64::MAX];
    });
    refused("weights with zero point 0", &|file| {
        tensor(file, "stem.weight").quantization.as_mut().unwrap().zero_point[0] = 3;
    });
    refused("one scale for each output channel", &|file| {
        // The kernel is 3 x 3: as many scales as rows.
        let quantization = tensor(file, "stem.weight").quantization.as_mut().unwrap();
        quantization.scale.truncate(3);
        quantization.zero_point.truncate(3);
        quantization.quantized_dimension = 1;
    });
    refused("weights of 8, 4 or 2 bits", &|file| tensor(file, "stem.weight").r#type = TensorType::UINT8);
    refused("a constant bias", &|file| tensor(file, "stem.bias").r#type = TensorType::FLOAT32);
    refused("weights whose channels divide", &|file| tensor(file, "input").shape = vec![1, 16, 16, 4]);
    refused("one image", &|file| tensor(file, "input").shape = vec![2, 16, 16, 3]);
    refused("one tensor", &|file| file.subgraphs[0].outputs.clear());
    refused("int8 or int16", &|file| {
        let input = tensor(file, "input");
        input.r#type = TensorType::UINT8;
        input.quantization.as_mut().unwrap().zero_point = vec![128];
    });
    refused("int8 or int16", &|file| tensor(file, "stem.output0").r#type = TensorType::FLOAT32);

    let contradicts = |change: &dyn Fn(&mut Model)| {
        let error = changed(change).unwrap_err();
        assert!(matches!(error, TfliteError::Model { .. }), "{error}");
    };
    contradicts(&|file| tensor(file, "input").quantization.as_mut().unwrap().scale = vec![f32::NAN]);
    contradicts(&|file| tensor(file, "input").quantization.as_mut().unwrap().zero_point = vec![200]);
    contradicts(&|file| tensor(file, "stem.output0").shape = vec![1, 15, 16, 8]);
    contradicts(&|file| tensor(file, "stem.output0").shape = vec![1, 1 << 15, 1 << 15, 8]);
    contradicts(&|file| tensor(file, "input").shape = vec![1, 0, 16, 3]);
}

#[test]
fn scales_that_no_table_can_be_made_for_are_refused() {
    for (name, model) in every_model(Rules::TfliteMicro) {
        for scale in [0.0, -1.0, f32::NAN, f32::INFINITY, -f32::MIN_POSITIVE] {
            let mut file = file(&model, &TfliteOptions::default());
            if let Some(quantization) = &mut tensor(&mut file, "input").quantization {
                quantization.scale = vec![scale];
                let error = from_tflite(&tflite::write(&file).unwrap(), Rules::TfliteMicro).unwrap_err();
                assert!(matches!(error, TfliteError::Model { .. }), "{name}: {error}");
            }
            let mut broken = model.clone();
            broken.values[0].qparams.scale = scale;
            assert!(with_rules(&broken, Rules::LiteRt).is_err(), "{name}");
        }
    }
}

#[test]
fn damage_never_panics() {
    let mut random = Random(20261124);
    println!("seed 20261124");
    let mut read = 0;
    for rules in RULES {
        for (_, model) in every_model(rules).into_iter().step_by(3) {
            let bytes = tflite::write(&file(&model, &TfliteOptions::default())).unwrap();
            for _ in 0..40 {
                let mut bytes = bytes.clone();
                for _ in 0..random.int(1, 3) {
                    let at = random.int(0, bytes.len() as i32 - 1) as usize;
                    bytes[at] = random.bits() as u8;
                }
                read += usize::from(from_tflite(&bytes, rules).is_ok());
            }
            assert!(matches!(from_tflite(&bytes[..bytes.len() / 2], rules), Err(TfliteError::Format { .. })));
        }
    }
    // Many a change falls on weights, and leaves a model.
    assert!(read > 0);
}
