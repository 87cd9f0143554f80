//! Times operations of training on the CPU: fake quantization beside copies of memory, convolutions beside products of matrices.
//!
//! ```text
//! cargo bench --workspace --bench ops [-- memory | products]
//! ```
//!
//! A ratio needs both sides under the same conditions. Operations therefore take turns, each once a round, the fastest of its runs in a
//! fixed time; a rate is the median over the rounds, a ratio the median of each round's ratio. That, and that they would have Burn built
//! twice, with features of its dependencies for benchmarks alone, is why no framework for benchmarks is used.
//!
//! How bytes are counted: a copy and a fake quantization read 4 and write 4 for each number; the gradients read 8, of input and of output,
//! and write 4. What a store reads of its line before it is not counted, for either. Copies go to memory that was written before, once by one
//! thread and once by two; the faster one of a round is what operations are compared with. Inputs are the same numbers in all of them.
//!
//! How operations are counted: two for each product of a weight and a number. A product of matrices has the sizes of the convolution as
//! one, `c_out × (c_in · k²)` by `(c_in · k²) × (N · H · W)`, whose patches are there already. Backward gives the gradients of input
//! and weight, twice the operations, and contains that its own gradient, ones, is made.

#![allow(unsafe_code, reason = "the product of matrices that is compared with takes pointers")]

use std::hint::black_box;
use std::rc::Rc;
use std::time::Instant;

use burn::module::Param;
use burn::tensor::ops::ConvOptions;
use burn::tensor::{Device, Distribution, Tensor};
use gemm::{Parallelism, gemm};
use qat::nn::{QuantConv2d, QuantConv2dConfig};
use qat::{
    Clamp, FakeQuantize, Granularity, IntegerFormat, Mode, ObserverKind, QuantTensor, RangeLearner, RangeSign, WeightScale,
    kernels,
};
use rayon::prelude::*;

const ROUNDS: usize = 7;
const TABLES: [&str; 2] = ["memory", "products"];

/// An operation that can be run again and again.
struct Operation {
    name: String,
    /// Bytes or arithmetic operations of one run.
    work: f64,
    run: Box<dyn FnMut()>,
}

impl Operation {
    fn new(name: impl Into<String>, work: f64, run: impl FnMut() + 'static) -> Self {
        Self { name: name.into(), work, run: Box::new(run) }
    }

    /// Seconds of one run, the fastest of as many as take a little while.
    fn seconds(&mut self) -> f64 {
        let mut fastest = f64::INFINITY;
        let begin = Instant::now();
        // One that takes microseconds is timed by the dozen.
        let mut together = 1;
        while begin.elapsed().as_secs_f64() < 0.06 {
            let start = Instant::now();
            (0..together).for_each(|_| (self.run)());
            let seconds = start.elapsed().as_secs_f64();
            fastest = fastest.min(seconds / f64::from(together));
            together = ((2e-4 / fastest) as u32).clamp(1, 100);
        }
        fastest
    }
}

/// Tensors that are timed: of many more bytes than caches have, and of fewer.
const TENSORS: [(&str, usize); 2] = [("64 MiB", 16 << 20), ("256 KiB", 64 << 10)];

/// A copy by so many threads.
fn copy(x: &Rc<Vec<f32>>, threads: usize) -> Operation {
    let (x, mut y) = (x.clone(), vec![1.0f32; x.len()]);
    Operation::new(format!("copy, threads: {threads}"), 8.0 * x.len() as f64, move || {
        let part = x.len().div_ceil(threads);
        match threads {
            1 => y.copy_from_slice(&x),
            _ => y.par_chunks_mut(part).zip(x.par_chunks(part)).for_each(|(y, x)| y.copy_from_slice(x)),
        }
        black_box(&y);
    })
}

/// Copies, then fake quantizations, of a tensor of `count` numbers.
fn memory(count: usize) -> Vec<Operation> {
    let signal = |step: f32| Rc::new((0..count).map(|i| 1.3 * (i as f32 * step).sin()).collect::<Vec<f32>>());
    let (x, dy) = (signal(0.618), signal(0.3));
    let mut operations = vec![copy(&x, 1), copy(&x, 2)];
    // Steps that put some of the numbers, between −1.3 and 1.3, beyond the grid.
    let grids: [(&str, usize, usize, bool, [f32; 2]); 5] = [
        ("per tensor, zero point", 1, count, true, [-128.0, 127.0]),
        ("per tensor, learned step", 1, count, false, [0.0, 15.0]),
        ("per channel of a convolution", count / 512, 512, false, [-127.0, 127.0]),
        ("per channel of a linear layer", 128, 1, false, [-127.0, 127.0]),
        ("per group of 32", count / 32, 32, false, [-7.0, 7.0]),
    ];
    for (name, channels, inner, has_zero, codes) in grids {
        let scale: Rc<Vec<f32>> = Rc::new((0..channels).map(|c| 1.2 / codes[1] * (1.0 + c as f32 / channels as f32)).collect());
        let zero: Rc<Vec<f32>> = Rc::new(if has_zero { vec![3.0; channels] } else { vec![] });
        let (input, steps, zeros) = (x.clone(), scale.clone(), zero.clone());
        operations.push(Operation::new(format!("forward, {name}"), 8.0 * count as f64, move || {
            black_box(kernels::fake_quantize(&input, &steps, &zeros, inner, codes));
        }));
        let (input, gradient) = (x.clone(), dy.clone());
        operations.push(Operation::new(format!("backward, {name}"), 12.0 * count as f64, move || {
            black_box(kernels::fake_quantize_gradients(&input, &gradient, &scale, &zero, inner, codes));
        }));
    }
    operations.push(layer(&x));
    operations
}

/// The forward pass of a quantizer with a learned step, by its public interface.
fn layer(x: &[f32]) -> Operation {
    let device = Device::flex();
    let format = IntegerFormat::INT8_NARROW;
    let quantizer = FakeQuantize::new(format, RangeSign::Any, ObserverKind::MinMax, &device)
        .with_range(-1.2, 1.2)
        .with_learner(RangeLearner::Lsq)
        .with_mode(Mode::Quantize);
    let tensor = Tensor::<1>::from_floats(x, &device);
    Operation::new("forward, `FakeQuantize` with a learned step", 8.0 * x.len() as f64, move || {
        black_box(quantizer.forward(tensor.clone()));
    })
}

/// A convolution of a network at batch 64.
struct Shape {
    net: &'static str,
    c_in: usize,
    c_out: usize,
    size: usize,
    kernel: usize,
    padding: usize,
    stride: usize,
    groups: usize,
}

const BATCH: usize = 64;

impl Shape {
    const fn new(net: &'static str, channels: [usize; 2], size: usize, window: [usize; 3], groups: usize) -> Self {
        let [kernel, padding, stride] = window;
        Self { net, c_in: channels[0], c_out: channels[1], size, kernel, padding, stride, groups }
    }

    fn output(&self) -> usize {
        (self.size + 2 * self.padding - self.kernel) / self.stride + 1
    }

    /// Rows and columns of the result of the product of matrices, and what is summed.
    fn product(&self) -> [usize; 3] {
        [self.c_out, BATCH * self.output().pow(2), self.c_in / self.groups * self.kernel.pow(2)]
    }

    fn work(&self) -> f64 {
        2.0 * self.product().iter().product::<usize>() as f64
    }

    fn name(&self) -> String {
        let Self { net, c_in, c_out, size, kernel, stride, groups, .. } = self;
        let kind = if *groups > 1 { ", depthwise" } else { "" };
        format!("{net}, {c_in} → {c_out}, {size}², {kernel}×{kernel}, stride {stride}{kind}")
    }
}

const SHAPES: [Shape; 14] = [
    Shape::new("lenet", [1, 12], 28, [5, 0, 1], 1),
    Shape::new("lenet", [12, 24], 12, [5, 0, 1], 1),
    Shape::new("resnet", [3, 16], 32, [3, 1, 1], 1),
    Shape::new("resnet", [16, 16], 32, [3, 1, 1], 1),
    Shape::new("resnet", [16, 32], 32, [3, 1, 2], 1),
    Shape::new("resnet", [32, 32], 16, [3, 1, 1], 1),
    Shape::new("resnet", [32, 64], 16, [3, 1, 2], 1),
    Shape::new("resnet", [64, 64], 8, [3, 1, 1], 1),
    Shape::new("resnet8", [16, 32], 32, [1, 0, 2], 1),
    Shape::new("mobilenet", [8, 16], 32, [1, 0, 1], 1),
    Shape::new("mobilenet", [64, 128], 8, [1, 0, 1], 1),
    Shape::new("mobilenet", [128, 128], 8, [1, 0, 1], 1),
    Shape::new("mobilenet", [32, 32], 16, [3, 1, 1], 32),
    Shape::new("mobilenet", [128, 128], 8, [3, 1, 1], 128),
];

/// The product of matrices, the convolution and its gradients.
fn products(shape: &Shape) -> [Operation; 3] {
    let [m, n, k] = shape.product();
    let (lhs, rhs, mut out) = (vec![0.5f32; m * k], vec![0.25f32; k * n], vec![0.0f32; m * n]);
    let product = move || {
        // SAFETY: all three are as long as their rows and columns say.
        unsafe {
            let (out, lhs, rhs) = (out.as_mut_ptr(), lhs.as_ptr(), rhs.as_ptr());
            let (row, columns) = (k as isize, n as isize);
            let threads = Parallelism::Rayon(0);
            gemm(m, n, k, out, 1, columns, false, lhs, 1, row, rhs, 1, columns, 0.0f32, 1.0, false, false, false, threads);
        }
        black_box(&out);
    };
    let forward = {
        let (layer, x) = convolution(shape, &Device::flex());
        move || drop(black_box(layer.forward(QuantTensor::float(x.clone()))))
    };
    let backward = {
        let (layer, x) = convolution(shape, &Device::flex().autodiff());
        let x = x.require_grad();
        move || drop(black_box(layer.forward(QuantTensor::float(x.clone())).tensor.backward()))
    };
    let work = shape.work();
    [
        Operation::new("product of matrices", work, product),
        Operation::new("forward", work, forward),
        Operation::new("forward and backward", 3.0 * work, backward),
    ]
}

/// A convolution whose quantizers are off, and an input for it.
fn convolution(shape: &Shape, device: &Device) -> (QuantConv2d, Tensor<4>) {
    let random = |dims: [usize; 4]| Tensor::<4>::random(dims, Distribution::Uniform(-1.0, 1.0), device);
    let Shape { c_in, c_out, size, kernel, padding, stride, groups, .. } = *shape;
    let weight = Param::from_tensor(random([c_out, c_in / groups, kernel, kernel]));
    let format = IntegerFormat::INT8_NARROW;
    let inputs = c_in / groups * kernel * kernel;
    let quantizer =
        qat::fake_quantize::WeightQuantizer::new(format, Granularity::PerChannel, WeightScale::Max, [c_out, inputs], device);
    let output = FakeQuantize::new(format, RangeSign::Any, ObserverKind::MinMax, device);
    let options = ConvOptions::new([stride; 2], [padding; 2], [1; 2], groups);
    let config = QuantConv2dConfig { options, clamp: Clamp::NONE };
    (QuantConv2d::new(weight, None, None, quantizer, output, config), random([BATCH, c_in, size, size]))
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// For each operation its rates, one a round.
fn rates(operations: &mut [Operation]) -> Vec<Vec<f64>> {
    let rounds: Vec<Vec<f64>> =
        (0..ROUNDS).map(|_| operations.iter_mut().map(|o| o.work / o.seconds() / 1e9).collect()).collect();
    (0..operations.len()).map(|index| rounds.iter().map(|round| round[index]).collect()).collect()
}

fn memory_table() {
    println!("| tensor | operation | GB/s | of the copy |\n| --- | --- | ---: | ---: |");
    for (size, count) in TENSORS {
        let mut operations = memory(count);
        let rates = rates(&mut operations);
        let copies: Vec<f64> = rates[0].iter().zip(&rates[1]).map(|(one, two)| one.max(*two)).collect();
        for (operation, rates) in operations.iter().zip(&rates) {
            let of_copy = median(rates.iter().zip(&copies).map(|(rate, copy)| rate / copy));
            println!("| {size} | {} | {:.1} | {:.0} % |", operation.name, median(rates.iter().copied()), 100.0 * of_copy);
        }
    }
}

fn product_table() {
    println!("| convolution | product of matrices, GFLOP/s | forward | of the product | forward and backward | of the product |");
    println!("| --- | ---: | ---: | ---: | ---: | ---: |");
    for shape in &SHAPES {
        let rates = rates(&mut products(shape));
        let rate = |index: usize| format!("{:.0}", median(rates[index].iter().copied()));
        if shape.groups > 1 {
            println!("| {} | – | {} | – | {} | – |", shape.name(), rate(1), rate(2));
            continue;
        }
        let of_product = |index: usize| median(rates[index].iter().zip(&rates[0]).map(|(rate, product)| rate / product));
        let [forward, both] = [1, 2].map(|index| format!("{:.0} %", 100.0 * of_product(index)));
        println!("| {} | {} | {} | {forward} | {} | {both} |", shape.name(), rate(0), rate(1), rate(2));
    }
}

fn main() {
    // As the command `qat` does: otherwise large results mostly wait for fresh pages.
    qat::keep_freed_memory();
    let is_asked = |table: &str| {
        let mut named = std::env::args().filter(|argument| TABLES.contains(&argument.as_str())).peekable();
        named.peek().is_none() || named.any(|name| name == table)
    };
    if is_asked("memory") {
        memory_table();
        println!();
    }
    if is_asked("products") {
        product_table();
    }
}
