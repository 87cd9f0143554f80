//! `qat quantize`: integers by calibration alone, from a float model in a file.

use std::path::Path;
use std::sync::Arc;

use burn::train::Interrupter;
use qat::QatModel;
use qat::analysis::layer_costs;
use qat_export::{Target, check};
use qat_train::data::npy::{self, Array};
use qat_train::data::{ImageSet, Normalize, Split, resolve};
use qat_train::recipe::{self, Calibration, Setting};
use qat_train::{Classifier, FitData, RunDirectory, save_model};

use super::outcome::{Measured, Outcome};
use super::{fitting, limited};
use crate::args::{Global, Quantize};
use crate::config;
use crate::error::CliError;
use crate::image_input::likeliest_units;
use crate::model::Source;
use crate::output::message;

/// What ranges are found with.
enum Calib {
    /// Images, and others to measure on, if there are any with labels.
    Images { calib: Arc<ImageSet>, test: Option<Arc<ImageSet>> },
    /// Real numbers in the model's own units and order, one sample after another.
    Reals(Vec<f32>),
}

/// Does what the arguments say.
pub fn run(args: &Quantize, global: &Global) -> Result<(), CliError> {
    let source = Source::open(&args.model)?;
    let units = source.units(args.units.given()?)?;
    let file = source.float_file()?;
    let mut manifest = config::quantize(args, global, &file)?;
    let device = manifest.device.parse::<qat::DeviceName>()?.init()?;
    let scheme = manifest.scheme.config();
    let target = args.target.unwrap_or_else(|| Target::natural(&scheme));
    let model = file.prepared(&scheme, &device)?;
    if let Some(obstacle) = check(&model, target).into_iter().next() {
        return Err(obstacle.into());
    }
    let calib = calib(args, &model, &file.path)?;
    manifest.data.normalize = match (&calib, units) {
        (_, Some(units)) => units,
        (Calib::Images { test: Some(test), .. }, None) => likeliest_units(&model, test, &device, global.quiet)?,
        (Calib::Images { .. }, None) => {
            if !global.quiet {
                message("input: unit, 0…1 (assumed; without labels it cannot be found out, and --input says otherwise)");
            }
            Normalize::unit()
        }
        (Calib::Reals(_), None) => Normalize::unit(),
    };
    if let Calib::Images { calib, .. } = &calib {
        manifest.data.suits(calib)?;
    }

    let run = RunDirectory::create(&args.out, manifest)?;
    run.keep_source(&file.path, &file.beside())?;
    let float_bytes = layer_costs(&model).iter().map(|cost| cost.float_bytes).sum();
    let images = match &calib {
        Calib::Images { test: Some(test), .. } => test.clone(),
        Calib::Images { calib, test: None } => calib.clone(),
        Calib::Reals(_) => Arc::new(nothing()),
    };
    let outcome = Outcome { command: "quantize", run: &run, images: &images, float_bytes, target };
    let manifest = run.manifest();
    let calibration = Calibration::of(&manifest.schedule, manifest.seed, manifest.data.normalize.clone());
    match calib {
        Calib::Images { calib, test: Some(test) } => {
            let data = FitData { train: calib, valid: test };
            let interrupter = Interrupter::new();
            let setting =
                Setting { run: &run, device: &device, style: global.progress(), interrupter: &interrupter, judge: None };
            let trained = recipe::finetune(model, None, &data, &setting)?.expect("nobody interrupts a run without epochs");
            let scores = |images| trained.model.logits(images);
            let measured = Measured::Labelled { float: trained.float, scores: &scores, quantized: trained.quantized.as_ref() };
            outcome.report(&measured, &device, global)
        }
        Calib::Images { calib, test: None } => {
            save_model(&run.float_model(), &model)?;
            let quantized = recipe::quantize(model, &calib, &calibration, &device)?;
            save_model(&run.qat_model(), &quantized)?;
            outcome.report(&Measured::Unlabelled(&quantized), &device, global)
        }
        Calib::Reals(samples) => {
            save_model(&run.float_model(), &model)?;
            let quantized = recipe::quantize_reals(model, &samples, &device)?;
            save_model(&run.qat_model(), &quantized)?;
            outcome.report(&Measured::Unlabelled(&quantized), &device, global)
        }
    }
}

/// Reads what ranges are found with, and what the results are measured on.
fn calib(args: &Quantize, model: &QatModel, path: &Path) -> Result<Calib, CliError> {
    let name = path.display().to_string();
    let topology = model.topology();
    let shape = topology.values[topology.input.0].sample_shape();
    let classes: usize = topology.values[topology.output.0].sample_shape().iter().product();
    if args.calib.ends_with(".npy") && !args.calib.contains(',') {
        let array = npy::read(Path::new(&args.calib))?;
        if let (Array::F32 { values, shape: found }, Some(&count)) = (&array, array.shape().first())
            && found[1..] == shape[..]
        {
            let keep = args.samples.map_or(count, |samples| samples.get().min(count)) * shape.iter().product::<usize>();
            let values = super::run::finite(values[..keep].to_vec(), Path::new(&args.calib))?;
            return Ok(Calib::Reals(values));
        }
    }
    let source = resolve(&args.calib)?;
    let calib = fitting(source.load_images(Split::Train)?, Split::Train, &name, &shape)?;
    // One array is both splits; what ranges were found with is no test.
    let test = match !source.is_one_split() && source.has(Split::Test)? {
        true => Some(fitting(limited(source.load_images(Split::Test)?, args.limit), Split::Test, &name, &shape)?),
        false => None,
    };
    let test = test.filter(|test| test.classes > 1 && test.classes <= classes);
    Ok(Calib::Images { calib: Arc::new(calib), test: test.map(Arc::new) })
}

/// No images.
fn nothing() -> ImageSet {
    ImageSet {
        name: String::new(),
        shape: [1, 1, 1],
        classes: 1,
        class_names: Vec::new(),
        images: Vec::new(),
        labels: Vec::new(),
    }
}
