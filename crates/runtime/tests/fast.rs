//! Fast kernels equal the reference bit for bit: every level of this processor, one thread and two, one sample and several.
//!
//! A problem is a model of one operation and the codes of some samples. Codes and weights are extremes, their neighbours or
//! anything between; scales are powers of two, which put sums on ties, or anything. Problems that the model's rules do not
//! define are left out, and how many were compared under each rules is checked.

mod common;

use std::collections::BTreeMap;

use common::{Random, chain, lenet, lenet_wide, residual, resnet};
use proptest::{
    prelude::*,
    test_runner::{RngSeed, TestRunner},
};
use qat_runtime::{
    AvgPool2d, Clamp, Codes, Concat, Conv2d, ConvTranspose2d, Elementwise, Engine, IntegerModel, Level, Linear, MatMul,
    MaxPool2d, Node, Op, PackedCodes, QParams, Rules, Slice, Transpose, ValueId, ValueInfo, WeightBits, Weights,
};

/// Compares all values of every sample, and the outputs of all samples at once.
fn assert_equal(model: &IntegerModel, codes: &[i8]) {
    let mut reference = Engine::reference(model).unwrap();
    let sample = model.input_info().elements().unwrap();
    let expected = reference.run(codes).unwrap();
    let traces: Vec<Vec<Codes>> = codes.chunks(sample).map(|codes| reference.trace(codes).unwrap()).collect();
    for level in Level::available() {
        for threads in [1, 2] {
            let mut engine = Engine::with_level(model, level).unwrap().with_threads(threads);
            for (codes, expected) in codes.chunks(sample).zip(&traces) {
                let found = engine.trace(codes).unwrap();
                for (node, value) in model.nodes.iter().map(|node| (node, node.output.0)) {
                    assert_eq!(found[value], expected[value], "{} with {level:?}, {threads} threads", node.op.kind());
                }
                assert_eq!(
                    &engine.run(codes).unwrap(),
                    &expected[model.output.0],
                    "one sample with {level:?}, {threads} threads"
                );
            }
            assert_eq!(engine.run(codes).unwrap(), expected, "a batch with {level:?}, {threads} threads");
        }
    }
}

/// Compares the problems of a strategy that their rules define, and enough of them under each rules.
fn compare(cases: u32, problems: impl Strategy<Value = (IntegerModel, Vec<i8>)>) {
    let config = ProptestConfig { rng_seed: RngSeed::Fixed(20_261_124), ..ProptestConfig::with_cases(cases) };
    let mut compared = BTreeMap::new();
    let counted = std::cell::RefCell::new(&mut compared);
    let result = TestRunner::new(config).run(&problems, |(model, codes)| {
        if model.validate().is_ok() {
            assert_equal(&model, &codes);
            *counted.borrow_mut().entry(model.rules.name()).or_insert(0) += 1;
        }
        Ok(())
    });
    result.unwrap_or_else(|error| panic!("{error}"));
    eprintln!("compared: {compared:?}");
    for (name, _) in Rules::NAMES {
        assert!(compared.get(name).is_some_and(|&count| count > cases / 32), "most problems were left out: {compared:?}");
    }
}

fn rules() -> impl Strategy<Value = Rules> {
    prop::sample::select(Rules::NAMES.map(|(_, rules)| rules).to_vec())
}

fn codes(length: usize) -> impl Strategy<Value = Vec<i8>> {
    prop::collection::vec(prop_oneof![Just(-128i8), Just(127i8), Just(0i8), any::<i8>()], length)
}

fn scale() -> impl Strategy<Value = f32> {
    prop_oneof![(-14i32..0).prop_map(|exponent| 2f32.powi(exponent)), 1e-4f32..1.0]
}

fn value(shape: &[usize]) -> impl Strategy<Value = ValueInfo> + use<> {
    let shape = shape.to_vec();
    (scale(), -128i32..=127)
        .prop_map(move |(scale, zero_point)| ValueInfo::int8("", &shape, QParams { scale: scale * 64.0, zero_point }))
}

fn clamp() -> impl Strategy<Value = Clamp> {
    (any::<i8>(), any::<i8>()).prop_map(|(a, b)| Clamp { min: a.min(b).into(), max: a.max(b).into() })
}

/// Weights of every width, never the lowest code of it.
fn weights(channels: usize, row: usize) -> impl Strategy<Value = Weights> {
    let bits = prop::sample::select(WeightBits::ALL.to_vec());
    let codes = bits.prop_flat_map(move |bits| {
        let (low, high) = (bits.min() + 1, bits.max());
        let code = prop_oneof![Just(low), Just(high), low..=high];
        prop::collection::vec(code, channels * row)
            .prop_map(move |codes| PackedCodes::pack(&codes, bits).expect("within the width"))
    });
    (codes, prop::collection::vec(scale(), channels), prop::collection::vec(-100_000i64..100_000, channels))
        .prop_map(|(codes, scale, bias)| Weights { codes, scale, bias })
}

/// A model of one operation on some samples; `shared` gives the output the input's parameters.
fn one(op: Op, x: ValueInfo, y: ValueInfo, rules: Rules) -> IntegerModel {
    let values = vec![ValueInfo { name: "x".into(), ..x }, ValueInfo { name: "y".into(), ..y }];
    let nodes = vec![Node { op, inputs: vec![ValueId(0)], output: ValueId(1) }];
    IntegerModel { rules, values, nodes, input: ValueId(0), output: ValueId(1) }
}

prop_compose! {
    /// A convolution without weights, and the height and width of its input.
    fn geometry(depthwise: bool)(
        groups in 1usize..=3, c_in in 1usize..=20, c_out in 1usize..=40, channels in 2usize..=40,
        size in (1usize..=9, 1usize..=20), kernel in (1usize..=4, 1usize..=5), stride in (1usize..=3, 1usize..=3),
        padding in prop::array::uniform4(0usize..=3), dilation in (1usize..=2, 1usize..=2), clamp in clamp(),
    ) -> (Conv2d, [usize; 2]) {
        let (c_in, c_out, groups) = if depthwise { (channels, channels, channels) } else { (c_in * groups, c_out * groups, groups) };
        let weights = Weights { codes: PackedCodes::eight(&[]), scale: vec![], bias: vec![] };
        let op = Conv2d {
            name: "conv".into(), weights, c_out, c_in, kernel: [kernel.0, kernel.1], stride: [stride.0, stride.1], padding,
            dilation: [dilation.0, dilation.1], groups, clamp,
        };
        (op, [size.0, size.1])
    }
}

fn convolutions(depthwise: bool) -> impl Strategy<Value = (IntegerModel, Vec<i8>)> {
    geometry(depthwise)
        .prop_filter("the kernel fits", |(op, [h, w])| op.output_shape(&[op.c_in, *h, *w]).is_some())
        .prop_flat_map(|(op, [h, w])| {
            let x = [op.c_in, h, w];
            let y = op.output_shape(&x).expect("filtered");
            let weights = weights(op.c_out, op.c_in / op.groups * op.kernel[0] * op.kernel[1]);
            let samples = 1usize..=3;
            (
                Just(op),
                weights,
                value(&x),
                value(&y),
                rules(),
                samples.prop_flat_map(move |n| codes(n * x.iter().product::<usize>())),
            )
        })
        .prop_map(|(op, weights, x, y, rules, codes)| (one(Op::Conv2d(Conv2d { weights, ..op }), x, y, rules), codes))
}

#[test]
fn convolutions_equal_the_reference() {
    compare(800, convolutions(false));
}

#[test]
fn depthwise_convolutions_equal_the_reference() {
    compare(500, convolutions(true));
}

#[test]
fn transposed_convolutions_equal_the_reference() {
    let geometry = (
        (1usize..=2, 1usize..=12, 1usize..=20),
        (1usize..=6, 1usize..=6),
        (1usize..=4, 1usize..=4),
        (1usize..=3, 1usize..=3),
        prop::array::uniform4(0usize..=2),
        (0usize..=1, 0usize..=1),
        any::<bool>(),
    );
    let problems = (geometry, clamp())
        .prop_map(|(((groups, c_in, c_out), (h, w), kernel, stride, padding, output_padding, dilated), clamp)| {
            // Groups and dilation are ONNX Runtime's alone, which has sums of reals.
            let (groups, dilation) = if dilated { (groups, [2, 1]) } else { (1, [1, 1]) };
            let weights = Weights { codes: PackedCodes::eight(&[]), scale: vec![], bias: vec![] };
            let op = ConvTranspose2d {
                name: "up".into(),
                weights,
                c_out: c_out * groups,
                c_in: c_in * groups,
                kernel: [kernel.0, kernel.1],
                stride: [stride.0, stride.1],
                padding,
                output_padding: [output_padding.0, output_padding.1],
                dilation,
                groups,
                clamp,
            };
            (op, [h, w])
        })
        .prop_filter("something is left", |(op, [h, w])| op.output_shape(&[op.c_in, *h, *w]).is_some())
        .prop_flat_map(|(op, [h, w])| {
            let x = [op.c_in, h, w];
            let y = op.output_shape(&x).expect("filtered");
            let weights = weights(op.c_out, op.c_in / op.groups * op.kernel[0] * op.kernel[1]);
            let samples = (1usize..=3).prop_flat_map(move |n| codes(n * x.iter().product::<usize>()));
            (Just(op), weights, value(&x), value(&y), rules(), samples)
        })
        .prop_map(|(op, weights, x, y, rules, codes)| {
            (one(Op::ConvTranspose2d(ConvTranspose2d { weights, ..op }), x, y, rules), codes)
        });
    compare(600, problems);
}

#[test]
fn linear_layers_equal_the_reference() {
    let problems = (1usize..=11, 1usize..=90, 1usize..=70)
        .prop_flat_map(|(rows, d_input, d_output)| {
            let samples = (1usize..=18).prop_flat_map(move |n| codes(n * rows * d_input));
            let (x, y) = (value(&[rows, d_input]), value(&[rows, d_output]));
            (weights(d_output, d_input), x, y, clamp(), rules(), samples)
        })
        .prop_map(|(weights, x, y, clamp, rules, codes)| {
            let (d_input, d_output) = (x.shape[1], y.shape[1]);
            let op = Linear { name: "fc".into(), weights, d_input, d_output, clamp };
            (one(Op::Linear(op), x, y, rules), codes)
        });
    compare(500, problems);
}

/// Operations on two values: the input, and what a clamp that keeps every code makes of it.
#[test]
fn element_wise_operations_equal_the_reference() {
    let op = |clamp| prop::sample::select(vec![Op::Add(clamp), Op::Sub(clamp), Op::Mul(clamp)]);
    let problems = (1usize..=5, 1usize..=5, 1usize..=40)
        .prop_flat_map(move |(c, h, w)| {
            let shape = [c, h, w];
            let op = clamp().prop_flat_map(move |clamp| op(Elementwise { clamp }));
            let samples = (1usize..=3).prop_flat_map(move |n| codes(n * c * h * w));
            (op, value(&shape), value(&shape), any::<bool>(), rules(), samples)
        })
        .prop_map(|(op, x, y, backwards, rules, codes)| {
            let mut model = one(op, x.clone(), y, rules);
            // Rows in another order, so that the operands differ.
            let cut = x.shape[2] / 2;
            let turned = model.values.len();
            let part = |start: usize, end: usize| Slice {
                start: vec![0, 0, start],
                end: vec![x.shape[0], x.shape[1], end],
                step: vec![1; 3],
            };
            if cut > 0 {
                let [c, h, w] = [x.shape[0], x.shape[1], x.shape[2]];
                for (name, width) in [("right", w - cut), ("left", cut), ("turned", w)] {
                    model.values.push(ValueInfo { name: name.into(), shape: vec![c, h, width], ..x.clone() });
                }
                let node = |op, inputs: &[usize], output: usize| Node {
                    op,
                    inputs: inputs.iter().map(|&id| ValueId(id)).collect(),
                    output: ValueId(output),
                };
                let first = [
                    node(Op::Slice(part(cut, w)), &[0], turned),
                    node(Op::Slice(part(0, cut)), &[0], turned + 1),
                    node(Op::Concat(Concat { axis: 2 }), &[turned, turned + 1], turned + 2),
                ];
                model.nodes.splice(0..0, first);
                let operands = [ValueId(0), ValueId(turned + 2)];
                model.nodes[3].inputs = if backwards { operands.into_iter().rev().collect() } else { operands.to_vec() };
            } else {
                model.nodes[0].inputs = vec![ValueId(0); 2];
            }
            (model, codes)
        });
    compare(800, problems);
}

/// Products of the input and twice the input on another grid, whose rows or columns are taken.
#[test]
fn matrix_products_equal_the_reference() {
    let problems = (1usize..=3, 1usize..=9, 1usize..=50)
        .prop_flat_map(|(matrices, rows, terms)| {
            let (x, y) = (value(&[matrices, rows, terms]), value(&[matrices, rows, rows]));
            let samples = (1usize..=3).prop_flat_map(move |n| codes(n * matrices * rows * terms));
            (x, value(&[matrices, rows, terms]), y, any::<bool>(), clamp(), rules(), samples)
        })
        .prop_map(|(x, twice, y, transpose_rhs, clamp, rules, codes)| {
            let clamp = if rules == Rules::OnnxRuntime { clamp } else { Clamp::INT8 };
            let mut model = one(Op::MatMul(MatMul { transpose_rhs, clamp }), x.clone(), y, rules);
            // A scale near the input's keeps the sum within every rule.
            let qparams = QParams { scale: x.qparams.scale * 2.0, ..twice.qparams };
            model.values.push(ValueInfo { name: "twice".into(), qparams, ..x.clone() });
            let node = |op, inputs: &[usize], output| Node {
                op,
                inputs: inputs.iter().map(|&id| ValueId(id)).collect(),
                output: ValueId(output),
            };
            let mut first = vec![node(Op::Add(Elementwise { clamp: Clamp::INT8 }), &[0, 0], 2)];
            if !transpose_rhs {
                let &[matrices, rows, terms] = x.shape.as_slice() else { unreachable!("made above") };
                model.values.push(ValueInfo { name: "columns".into(), shape: vec![matrices, terms, rows], qparams, ..x });
                first.push(node(Op::Transpose(Transpose { permutation: vec![0, 2, 1] }), &[2], 3));
            }
            let operands = [ValueId(0), first.last().expect("not empty").output];
            model.nodes[0].inputs = operands.to_vec();
            model.nodes.splice(0..0, first);
            (model, codes)
        });
    compare(500, problems);
}

/// Operations on the input and a part of it that is of size 1 along some axes.
#[test]
fn stretched_operands_equal_the_reference() {
    let op = |clamp| prop::sample::select(vec![Op::Add(clamp), Op::Sub(clamp), Op::Mul(clamp)]);
    let problems = (prop::array::uniform3(1usize..=12), any::<[bool; 4]>())
        .prop_flat_map(move |(shape, flags)| {
            let op = clamp().prop_flat_map(move |clamp| op(Elementwise { clamp }));
            let samples = (1usize..=3).prop_flat_map(move |n| codes(n * shape.iter().product::<usize>()));
            (op, value(&shape), value(&shape), Just(flags), rules(), samples)
        })
        .prop_map(|(op, x, y, [backwards, stretched @ ..], rules, codes)| {
            let mut model = one(op, x.clone(), y, rules);
            let end: Vec<usize> = x.shape.iter().zip(stretched).map(|(&size, one)| if one { 1 } else { size }).collect();
            model.values.push(ValueInfo { name: "part".into(), shape: end.clone(), ..x });
            let part = Op::Slice(Slice { start: vec![0; 3], end, step: vec![1; 3] });
            model.nodes.insert(0, Node { op: part, inputs: vec![ValueId(0)], output: ValueId(2) });
            model.nodes[1].inputs = if backwards { vec![ValueId(2), ValueId(0)] } else { vec![ValueId(0), ValueId(2)] };
            // A pool makes the operand an image whose channels come last.
            let pool = MaxPool2d { kernel: [1, 1], stride: [1, 1], padding: [0; 4], dilation: [1, 1] };
            let pooled = ValueInfo { name: "pooled".into(), ..model.values[0].clone() };
            model.values.push(pooled);
            model.nodes.insert(0, Node { op: Op::MaxPool2d(pool), inputs: vec![ValueId(0)], output: ValueId(3) });
            for node in &mut model.nodes[1..] {
                node.inputs.iter_mut().filter(|id| id.0 == 0).for_each(|id| id.0 = 3);
            }
            (model, codes)
        });
    compare(600, problems);
}

#[test]
fn pools_equal_the_reference() {
    let window = (
        (1usize..=40, 1usize..=9, 1usize..=9),
        (1usize..=4, 1usize..=4),
        (1usize..=3, 1usize..=3),
        prop::array::uniform4(0usize..=3),
        (1usize..=2, 1usize..=2),
        any::<[bool; 3]>(),
    );
    let problems = window
        .prop_flat_map(|((c, h, w), kernel, stride, padding, dilation, [max, count_include_pad, whole])| {
            let (kernel, stride, dilation) = ([kernel.0, kernel.1], [stride.0, stride.1], [dilation.0, dilation.1]);
            let max_pool = MaxPool2d { kernel, stride, padding, dilation };
            let (kernel, padding) = if whole { ([h, w], [0; 4]) } else { (kernel, padding) };
            let avg_pool = AvgPool2d { kernel, stride, padding, count_include_pad };
            let x = [c, h, w];
            let (op, shape) = match max {
                true => (Op::MaxPool2d(max_pool), max_pool.output_shape(&x)),
                false => (Op::AvgPool2d(avg_pool), avg_pool.output_shape(&x)),
            };
            let samples = (1usize..=3).prop_flat_map(move |n| codes(n * c * h * w));
            let shape = shape.unwrap_or_else(|| x.to_vec());
            (Just(op), value(&x), value(&shape), any::<bool>(), rules(), samples)
        })
        .prop_map(|(op, x, mut y, shared, rules, codes)| {
            if shared || matches!(op, Op::MaxPool2d(_)) {
                y.qparams = x.qparams;
            }
            (one(op, x, y, rules), codes)
        });
    compare(1500, problems);
}

/// Every operation that has one operand, one after another in any order, on images in either layout and on rows.
#[test]
fn chains_of_operations_equal_the_reference() {
    let mut compared = 0;
    for seed in 0..400 {
        let mut random = Random::quiet(seed + 1);
        let model = chain(&mut random);
        if model.validate().is_err() {
            continue;
        }
        compared += 1;
        let samples = random.range(1, 3) as usize;
        let codes = random.codes(samples * model.input_info().elements().unwrap());
        assert_equal(&model, &codes);
    }
    eprintln!("compared: {compared} chains");
    assert!(compared > 100, "most chains were left out: {compared} remain");
}

#[test]
fn whole_networks_equal_the_reference() {
    for model in [lenet(1), lenet_wide(2), residual(3), resnet(1, 4)] {
        let sample = model.input_info().elements().unwrap();
        assert_equal(&model, &Random::new(5).codes(3 * sample));
    }
}
