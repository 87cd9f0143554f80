//! Kernels against plain loops at every level of instructions, and bit for bit with every number of threads.

use super::{Conv2dShape, Input, conv2d, conv2d_bias_gradient, conv2d_input_gradient, conv2d_weight_gradient};
use super::{forward, input_gradient, input_gradient_by_taps, weight_gradient_by_images};
use crate::ops::simd::levels::{self, Level};

/// Seed of every draw of this file.
const SEED: u64 = 20_261_124;

struct Draws(u64);

impl Draws {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) % n as u64) as usize
    }

    /// In `[-1, 1]`.
    fn numbers(&mut self, length: usize) -> Vec<f32> {
        (0..length).map(|_| self.below(1 << 20) as f32 / (1 << 19) as f32 - 1.0).collect()
    }
}

/// Batch, channels in and out, groups; height, width and kernel, stride, padding and dilation of each axis.
fn shape([batch, c_in, c_out, groups]: [usize; 4], input: [usize; 2], kernel: [usize; 2], steps: [[usize; 2]; 3]) -> Conv2dShape {
    let [stride, padding, dilation] = steps;
    let output = [0, 1].map(|a| (input[a] + 2 * padding[a] - (kernel[a] - 1) * dilation[a] - 1) / stride[a] + 1);
    Conv2dShape { batch, c_in, c_out, input, output, kernel, stride, padding, dilation, groups }
}

/// The same in both axes: batch, channels in and out, groups, size, kernel, stride, padding.
fn square([batch, c_in, c_out, groups, size, k, stride, padding]: [usize; 8]) -> Conv2dShape {
    shape([batch, c_in, c_out, groups], [size; 2], [k; 2], [[stride; 2], [padding; 2], [1; 2]])
}

/// Every kind of layer that the kernels treat apart.
fn layers() -> Vec<Conv2dShape> {
    let mut layers: Vec<Conv2dShape> = [
        // Depthwise: maps of whole and broken vectors, of fewer planes than lanes, of one number, larger than a band.
        [5, 32, 32, 32, 14, 3, 1, 1],
        [3, 64, 64, 64, 14, 3, 2, 1],
        [2, 8, 8, 8, 16, 3, 1, 1],
        [1, 5, 5, 5, 9, 3, 2, 1],
        [5, 24, 24, 24, 7, 5, 1, 2],
        [4, 128, 128, 128, 2, 3, 1, 1],
        [3, 128, 128, 128, 2, 3, 2, 1],
        [2, 256, 256, 256, 1, 3, 1, 1],
        [1, 16, 16, 16, 32, 3, 1, 1],
        [1, 3, 3, 3, 40, 3, 1, 1],
        [2, 20, 20, 20, 12, 2, 2, 0],
        // 1 by 1, on areas of whole vectors and others.
        [5, 64, 64, 1, 7, 1, 1, 0],
        [3, 20, 30, 1, 5, 1, 1, 0],
        [2, 32, 64, 1, 14, 1, 1, 0],
        [5, 16, 32, 1, 8, 1, 1, 0],
        [4, 128, 128, 1, 2, 1, 1, 0],
        [5, 96, 40, 1, 1, 1, 1, 0],
        [4, 16, 32, 1, 16, 1, 2, 0],
        [2, 8, 24, 2, 7, 1, 1, 1],
        // Others: few and many channels, strides, small maps, groups, more padding than the kernel reaches.
        [1, 16, 16, 1, 32, 3, 1, 1],
        [2, 3, 16, 1, 32, 3, 2, 1],
        [3, 16, 32, 1, 16, 3, 2, 1],
        [5, 64, 64, 1, 8, 3, 1, 1],
        [3, 32, 48, 1, 4, 3, 1, 1],
        [2, 12, 24, 1, 12, 5, 1, 0],
        [2, 1, 12, 1, 28, 5, 1, 0],
        [2, 96, 96, 1, 3, 3, 1, 0],
        [4, 32, 64, 4, 6, 3, 1, 1],
        [2, 16, 16, 1, 6, 3, 2, 3],
        [1, 40, 16, 1, 9, 4, 3, 2],
        [2, 17, 19, 1, 5, 3, 2, 2],
    ]
    .map(square)
    .into();
    layers.push(shape([3, 16, 16, 16], [9, 12], [3, 2], [[1, 2], [2, 1], [2, 1]]));
    layers.push(shape([2, 16, 32, 1], [11, 7], [3, 3], [[2, 1], [2, 2], [2, 2]]));
    layers.push(shape([2, 8, 16, 1], [13, 18], [2, 3], [[1, 1], [0, 1], [3, 1]]));
    layers.push(shape([1, 32, 32, 1], [10, 3], [1, 3], [[3, 2], [0, 4], [1, 1]]));
    layers
}

/// Output and gradients of input, weight and bias.
fn run(shape: &Conv2dShape, [x, weight, bias, dy]: &[Vec<f32>; 4]) -> [Vec<f32>; 4] {
    [
        conv2d(shape, x, weight, bias),
        conv2d_input_gradient(shape, weight, dy),
        conv2d_weight_gradient(shape, Input::Numbers(x), dy),
        conv2d_bias_gradient(shape, dy),
    ]
}

/// The same by plain loops in f64.
fn reference(shape: &Conv2dShape, [x, weight, bias, dy]: &[Vec<f32>; 4]) -> [Vec<f64>; 4] {
    let (inputs, outputs) = (shape.group_inputs(), shape.group_outputs());
    let mut found = [x, weight, bias, dy].map(|numbers| vec![0.0f64; numbers.len()]);
    let [dx, dw, db, y] = &mut found;
    for (index, (y, dy)) in y.iter_mut().zip(dy).enumerate() {
        let (at, rest) = (index % shape.output_area(), index / shape.output_area());
        let (o, n) = (rest % shape.c_out, rest / shape.c_out);
        let (out_y, out_x) = (at / shape.output[1], at % shape.output[1]);
        *y = f64::from(bias[o]);
        db[o] += f64::from(*dy);
        for (i, ky, kx) in (0..inputs).flat_map(|i| (0..shape.taps()).map(move |k| (i, k / shape.kernel[1], k % shape.kernel[1])))
        {
            let row = (out_y * shape.stride[0] + ky * shape.dilation[0]).wrapping_sub(shape.padding[0]);
            let column = (out_x * shape.stride[1] + kx * shape.dilation[1]).wrapping_sub(shape.padding[1]);
            if row < shape.input[0] && column < shape.input[1] {
                let from = ((n * shape.c_in + o / outputs * inputs + i) * shape.input[0] + row) * shape.input[1] + column;
                let tap = (o * inputs + i) * shape.taps() + ky * shape.kernel[1] + kx;
                *y += f64::from(weight[tap]) * f64::from(x[from]);
                dx[from] += f64::from(weight[tap]) * f64::from(*dy);
                dw[tap] += f64::from(x[from]) * f64::from(*dy);
            }
        }
    }
    let [dx, dw, db, y] = found;
    [y, dx, dw, db]
}

fn operands(shape: &Conv2dShape, draws: &mut Draws) -> [Vec<f32>; 4] {
    [shape.input_len(), shape.weight_len(), shape.c_out, shape.output_len()].map(|length| draws.numbers(length))
}

/// As [`run`], with vectors over images where they are not the cheapest too.
fn run_by_images(shape: &Conv2dShape, [x, weight, bias, dy]: &[Vec<f32>; 4]) -> [Vec<f32>; 4] {
    let forward = forward::correlations(shape, x, bias);
    let backward = input_gradient::correlations(shape, dy, input_gradient::phases(shape));
    [
        forward.run_by_images(&forward.classes(), weight),
        backward.run_by_images(&backward.classes(), weight),
        weight_gradient_by_images::weight_gradient(shape, Input::Numbers(x), dy),
        conv2d_bias_gradient(shape, dy),
    ]
}

/// As [`run`], with the gradient of the input by taps where that is not the cheapest too.
fn run_by_taps(shape: &Conv2dShape, operands: &[Vec<f32>; 4]) -> [Vec<f32>; 4] {
    let [_, weight, _, dy] = operands;
    let [y, _, dw, db] = run(shape, operands);
    [y, input_gradient_by_taps::input_gradient(shape, weight, dy), dw, db]
}

type Run = fn(&Conv2dShape, &[Vec<f32>; 4]) -> [Vec<f32>; 4];

fn check(run: Run, shape: &Conv2dShape, draws: &mut Draws, level: Level) {
    let operands = operands(shape, draws);
    for (what, (got, expected)) in run(shape, &operands).iter().zip(reference(shape, &operands)).enumerate() {
        assert_eq!(got.len(), expected.len());
        let largest = expected.iter().fold(1e-6f64, |largest, x| largest.max(x.abs()));
        for (index, (got, expected)) in got.iter().zip(&expected).enumerate() {
            let distance = (f64::from(*got) - expected).abs() / largest;
            assert!(distance < 1e-5, "{level:?}, {shape:?}, result {what} at {index}: expected {expected}, found {got}");
        }
    }
}

/// Calls `f` on one of `threads` threads that run kernels at `level`.
fn at<R: Send>(level: Level, threads: usize, f: impl FnOnce() -> R + Send) -> R {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).start_handler(move |_| levels::force(level));
    pool.build().expect("a pool").install(f)
}

#[test]
fn every_layer_is_near_plain_loops_at_every_level() {
    for level in levels::present() {
        at(level, 2, || {
            let mut draws = Draws(SEED);
            layers().iter().for_each(|shape| check(run, shape, &mut draws, level));
        });
    }
}

#[test]
fn every_geometry_is_near_plain_loops_at_every_level() {
    for level in levels::present() {
        at(level, 2, || {
            let mut draws = Draws(SEED);
            for _ in 0..300 {
                let groups = [1, 1, 1, 2, 16][draws.below(5)];
                let channels = match draws.below(2) {
                    0 => [groups, groups],
                    _ => [groups * (1 + draws.below(20)), groups * (1 + draws.below(20))],
                };
                let kernel = [1 + draws.below(4), 1 + draws.below(4)];
                let steps = [
                    [1 + draws.below(3), 1 + draws.below(3)],
                    [draws.below(4), draws.below(4)],
                    [1 + draws.below(2), 1 + draws.below(2)],
                ];
                let input = [0, 1].map(|axis| {
                    let least = (kernel[axis] - 1) * steps[2][axis] + 1;
                    least.saturating_sub(2 * steps[1][axis]).max(1) + draws.below(9)
                });
                let shape = shape([1 + draws.below(4), channels[0], channels[1], groups], input, kernel, steps);
                check(run, &shape, &mut draws, level);
                check(run_by_images, &shape, &mut draws, level);
                check(run_by_taps, &shape, &mut draws, level);
            }
        });
    }
}

#[test]
fn vectors_over_images_are_near_plain_loops_at_every_level() {
    // Whole and broken vectors of images, one and several blocks.
    let batches = [1, 8, 15, 16, 19, 33];
    for level in levels::present() {
        at(level, 2, || {
            let mut draws = Draws(SEED);
            for (shape, batch) in layers().into_iter().zip(batches.into_iter().cycle()) {
                let shape = Conv2dShape { batch, ..shape };
                check(run_by_images, &shape, &mut draws, level);
                check(run_by_taps, &shape, &mut draws, level);
            }
        });
    }
}

#[test]
fn no_number_depends_on_threads() {
    for level in levels::present() {
        let run = |threads: usize| {
            at(level, threads, || {
                let mut draws = Draws(SEED);
                let results = layers().into_iter().map(|shape| {
                    let operands = operands(&shape, &mut draws);
                    [run, run_by_images, run_by_taps].map(|run: Run| run(&shape, &operands).concat()).concat()
                });
                results.map(|numbers| numbers.into_iter().map(f32::to_bits).collect::<Vec<_>>()).collect::<Vec<_>>()
            })
        };
        let alone = run(1);
        for threads in [2, 3, 8] {
            for (shape, (got, alone)) in layers().iter().zip(run(threads).iter().zip(&alone)) {
                assert!(got == alone, "{level:?}, {shape:?}: {threads} threads gave other numbers");
            }
        }
    }
}

#[test]
fn small_batches_are_divided() {
    // A batch of one image has work for many threads, in every kernel: with the first task alone, most results would be missing.
    let division = super::divide::Division::new(1, 32, 1 << 23, usize::MAX);
    assert_eq!(division.count(), 16);
    let rows: Vec<usize> = (0..division.count()).flat_map(|task| division.task(task)[1].clone()).collect();
    assert_eq!(rows, (0..32).collect::<Vec<_>>());
}
