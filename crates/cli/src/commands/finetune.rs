//! `qat finetune`: quantization-aware training from a float model in a file, resumable at any step.

use burn::tensor::Device;
use qat::analysis::layer_costs;
use qat::{Mode, QConfig, QatModel};
use qat_export::{Target, check};
use qat_train::recipe::{self, Setting};
use qat_train::zoo::ZooModel;
use qat_train::{Classifier, Manifest, RunDirectory};

use super::outcome::{Measured, Outcome, judge};
use super::train::{interrupter, quoted};
use super::{fit_data, named_target};
use crate::args::{Finetune, Global, ModelArgs};
use crate::config;
use crate::error::CliError;
use crate::float_file::FloatFile;
use crate::image_input::likeliest_units;
use crate::model::Source;

/// Does what the arguments say.
pub fn run(args: &Finetune, global: &Global) -> Result<(), CliError> {
    let earlier = if args.resume { Some(RunDirectory::open(&args.out)?) } else { None };
    let source = Source::open(&args.model)?;
    let units = source.units(args.units.given()?)?;
    let original = source.float_file()?;
    let mut manifest = config::finetune(args, global, &original, earlier.as_ref().map(RunDirectory::manifest))?;
    // A run goes on with the model that it began with, whatever has become of the original.
    let file = match &earlier {
        Some(run) => FloatFile::of_run(run)?.unwrap_or_else(|| original.clone()),
        None => original.clone(),
    };
    let device = manifest.device.parse::<qat::DeviceName>()?.init()?;
    manifest.more_devices()?;
    let scheme = manifest.scheme.config();
    let target = named_target(&manifest)?.unwrap_or_else(|| Target::natural(&scheme));
    let model = file.prepared(&scheme, &device)?;
    if let Some(obstacle) = check(&model, target).into_iter().next() {
        return Err(obstacle.into());
    }
    let topology = model.topology();
    let shape = topology.values[topology.input.0].sample_shape();
    let classes = topology.values[topology.output.0].sample_shape().iter().product();
    let data = fit_data(&manifest, &file.path.display().to_string(), &shape, classes)?;
    if earlier.is_none() {
        manifest.data.normalize = match units {
            Some(units) => units,
            None => likeliest_units(&model, &data.train, &device, global.quiet)?,
        };
    } else if let Some(units) = args.units.given()? {
        manifest.data.normalize = units;
    }
    manifest.data.suits(&data.train)?;
    let teacher = args.teacher.as_ref().map(|_| teacher(args, &device)).transpose()?;
    if teacher.is_some() && !manifest.schedule.distillation.is_used() {
        return Err(CliError::Usage {
            what: "argument without effect",
            place: "--teacher".into(),
            expected: "a schedule with distillation".into(),
            found: "distillation.weight = 0 and no features".into(),
            hint: None,
        });
    }

    let run = match earlier {
        Some(_) => RunDirectory::resume(&args.out, &manifest)?,
        None => RunDirectory::create(&args.out, manifest.clone())?,
    };
    if run.source().is_some_and(|copy| !copy.exists()) {
        run.keep_source(&original.path, &original.beside())?;
    }
    let float_bytes = layer_costs(&model).iter().map(|cost| cost.float_bytes).sum();
    let interrupter = interrupter(global.quiet)?;
    global.detail(&format!(
        "{} on {}: {} + {} images, {} on {}, input {}, run in {}",
        file.path.display(),
        data.train.name,
        data.train.len(),
        data.valid.len(),
        manifest.scheme,
        manifest.device,
        manifest.data.normalize,
        run.path().display()
    ));
    let judge = judge(&data.valid, &manifest.data.normalize, target);
    let setting =
        Setting { run: &run, device: &device, style: global.progress(), interrupter: &interrupter, judge: Some(&judge) };
    let Some(trained) = recipe::finetune(model, teacher.as_ref(), &data, &setting)? else {
        return Err(CliError::Interrupted { path: run.path().to_owned(), resume: resume_command(args, &manifest) });
    };
    let outcome = Outcome { command: "finetune", run: &run, images: &data.valid, float_bytes, target };
    let scores = |images| trained.model.logits(images);
    let measured = Measured::Labelled { float: trained.float, scores: &scores, quantized: trained.quantized.as_ref() };
    outcome.report(&measured, &device, global)
}

/// The float model to learn from.
fn teacher(args: &Finetune, device: &Device) -> Result<QatModel, CliError> {
    let path = args.teacher.clone().unwrap_or_default();
    let is_weights = path.extension().is_some_and(|extension| {
        qat_train::pretrained::EXTENSIONS.contains(&extension.to_string_lossy().to_lowercase().as_str())
    });
    let zoo: Option<ZooModel> = args.teacher_model.or(args.model.zoo).filter(|_| is_weights);
    let model = ModelArgs { path, zoo, rename: Vec::new() };
    Ok(Source::open(&model)?.float_file()?.prepared(&QConfig::int8(), device)?.with_mode(Mode::Float))
}

/// The command that continues a run.
fn resume_command(args: &Finetune, manifest: &Manifest) -> String {
    let zoo = args.model.zoo.map(|zoo| format!(" --model {zoo}")).unwrap_or_default();
    let teacher = args.teacher.as_ref().map(|teacher| format!(" --teacher {}", quoted(teacher))).unwrap_or_default();
    let teacher_model = args.teacher_model.map(|zoo| format!(" --teacher-model {zoo}")).unwrap_or_default();
    let rename: String = args.model.rename.iter().map(|rule| format!(" --rename {}", quoted(rule.as_ref()))).collect();
    format!(
        "qat finetune {}{zoo}{rename} --data {}{teacher}{teacher_model} --resume --out {}",
        quoted(&args.model.path),
        quoted(manifest.dataset.as_ref()),
        quoted(&args.out)
    )
}
