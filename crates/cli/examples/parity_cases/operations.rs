//! One case for each operation, granularity and width of weights, width of activations, and kind of scales.

use qat_export::with_rules;
use qat_runtime::{CodeType, Codes, IntegerModel, Op, Rules, WeightBits};

use crate::{
    cases::{Case, Models},
    models::{Draw, Random, Scales, input_codes, problems},
};

/// Samples that no case exceeds: an operation that gives one number for a sample stays below the wanted outputs.
const MOST_SAMPLES: usize = 4000;

const SCALES: [(&str, Scales); 3] = [("random", Scales::Random), ("ties", Scales::Ties), ("saturating", Scales::Saturating)];

/// Activations and weights of a row.
const WIDTHS: [(&str, CodeType, WeightBits); 4] = [
    ("8×8", CodeType::Int8, WeightBits::Eight),
    ("8×4", CodeType::Int8, WeightBits::Four),
    ("8×2", CodeType::Int8, WeightBits::Two),
    ("16×8", CodeType::Int16, WeightBits::Eight),
];

/// All cases, with at least `outputs` numbers for each operation, granularity and width where [`MOST_SAMPLES`] allows it, from
/// `draws` models of each kind.
pub fn cases(seed: u64, outputs: usize, draws: usize) -> Vec<Case> {
    (0..draws as u64).flat_map(|draw| of_draw(seed + draw, outputs / draws)).collect()
}

fn of_draw(seed: u64, outputs: usize) -> Vec<Case> {
    let mut cases = Vec::new();
    for (width, code_type, bits) in WIDTHS {
        for per_tensor in [false, true] {
            for (kind, scales) in SCALES {
                let draw = Draw { code_type, bits, per_tensor, scales, ..Draw::int8(Rules::OnnxRuntime) };
                for (op, model) in problems(seed, draw) {
                    let is_weighted = model.nodes.iter().any(|node| node.op.weights().is_some());
                    // Without weights there is neither a width nor a granularity of them.
                    if !is_weighted && (per_tensor || !matches!(bits, WeightBits::Eight)) {
                        continue;
                    }
                    let granularity = match (is_weighted, per_tensor) {
                        (false, _) => "",
                        (true, false) => "channel",
                        (true, true) => "tensor",
                    };
                    let width = if is_weighted { width } else { width.split('×').next().unwrap_or(width) };
                    let samples = outputs.div_ceil(SCALES.len() * model.output_info().elements().unwrap()).clamp(3, MOST_SAMPLES);
                    let x = inputs(&model, samples, seed);
                    let models = Models::by(|rules| with_rules(&model, rules).map_err(|error| error.to_string()));
                    cases.push(Case { op, width, granularity, kind, models, samples, x, labels: Vec::new() });
                }
            }
        }
    }
    cases
}

/// Random codes; the first samples are all lowest, all highest and all real zero.
fn inputs(model: &IntegerModel, samples: usize, seed: u64) -> Codes {
    let mut codes = input_codes(model, samples, &mut Random(seed));
    let info = model.input_info();
    if model.nodes.iter().any(|node| matches!(node.op, Op::Gather(_))) {
        return codes;
    }
    let extremes = [info.code_type.min(), info.code_type.max(), info.qparams.zero_point];
    for (sample, extreme) in extremes.into_iter().enumerate() {
        let range = sample * info.elements().unwrap()..(sample + 1) * info.elements().unwrap();
        match &mut codes {
            Codes::Int8(codes) => codes[range].fill(extreme as i8),
            Codes::Int16(codes) => codes[range].fill(extreme as i16),
            Codes::Int32(codes) => codes[range].fill(extreme),
        }
    }
    codes
}
