//! `qat data`: the datasets there are, whether their files are the published ones, and downloads of them.

use std::time::{Duration, Instant};

use qat_train::data::{CheckReport, FORMS, FetchEvent, Verdict, check, fetch, list};
use qat_train::report::thousands;
use serde_json::json;

use crate::args::{Data, Global};
use crate::error::CliError;
use crate::output::{Report, message};

/// Does what the arguments say.
pub fn run(command: &Data, global: &Global) -> Result<(), CliError> {
    match command {
        Data::List => show(global),
        Data::Check { name } => verify(name, global),
        Data::Fetch { name, from } => download(name, from.as_deref(), global),
    }
}

fn show(global: &Global) -> Result<(), CliError> {
    let mut report = Report::new("data list", global.json);
    let datasets = list();
    for entry in &datasets {
        report.line(&format!("{}: {}", entry.name, entry.description))?;
        report.line(&format!("    licence: {}", entry.licence))?;
        match &entry.folder {
            Some(folder) => report.line(&format!("    found in {}", folder.display()))?,
            None => report.line(&format!("    not found: {}", entry.how))?,
        }
    }
    report.line("or a path:")?;
    for form in &FORMS {
        report.line(&format!("    {}: {}", form.path, form.description))?;
    }
    let entry = |entry: &qat_train::data::Entry| {
        json!({
            "name": entry.name,
            "description": entry.description,
            "licence": entry.licence,
            "folder": entry.folder.as_ref().map(|folder| folder.display().to_string()),
        })
    };
    report.set("datasets", datasets.iter().map(entry).collect::<Vec<_>>());
    let forms = FORMS.iter().map(|form| json!({ "path": form.path, "description": form.description }));
    report.set("forms", forms.collect::<Vec<_>>());
    report.finish()
}

fn verify(name: &str, global: &Global) -> Result<(), CliError> {
    let mut report = Report::new("data check", global.json);
    let found = check(name)?;
    let verdict = |verdict| match verdict {
        Verdict::Published => "published file",
        Verdict::SameData => "published data, stored differently",
        Verdict::StructureOnly => "structure right, no published checksum known",
    };
    for file in &found.files {
        report.line(&format!("{}  {} bytes  {}", file.path.display(), thousands(file.bytes), verdict(file.verdict)))?;
    }
    let [c, h, w] = found.shape;
    let (train, test) = (thousands(found.train as u64), thousands(found.test as u64));
    report.line(&format!("{}: {train} + {test} images of {c}x{h}x{w}, {} classes, in order", found.name, found.classes))?;
    report.table(&classes(&found))?;
    report.set("dataset", found.name.as_str());
    report.set("folder", found.folder.display().to_string());
    report.set("train", found.train);
    report.set("test", found.test);
    report.set("shape", found.shape.to_vec());
    report.set("classes", found.classes);
    report.set("class_names", found.class_names.clone());
    report.set("train_counts", found.train_counts.clone());
    report.set("test_counts", found.test_counts.clone());
    report.set("files", found.files.iter().map(|file| file.path.display().to_string()).collect::<Vec<_>>());
    report.set("verdicts", found.files.iter().map(|file| verdict(file.verdict)).collect::<Vec<_>>());
    report.finish()
}

/// How many images each class has.
fn classes(found: &CheckReport) -> Vec<Vec<String>> {
    let count = |counts: &[usize], class: usize| counts.get(class).map_or("-".into(), |&count| thousands(count as u64));
    let row = |(class, name): (usize, &String)| {
        vec![format!("    {name}"), count(&found.train_counts, class), count(&found.test_counts, class)]
    };
    let head = vec!["    class".into(), "train".into(), "test".into()];
    std::iter::once(head).chain(found.class_names.iter().enumerate().map(row)).collect()
}

/// Time between two lines about a download.
const BETWEEN: Duration = Duration::from_secs(5);

fn download(name: &str, from: Option<&str>, global: &Global) -> Result<(), CliError> {
    let mut report = Report::new("data fetch", global.json);
    let mut files = Vec::new();
    let mut told = Instant::now();
    let folder = fetch(name, from, &mut |event| {
        let line = match event {
            FetchEvent::InPlace { path } => {
                files.push(path.display().to_string());
                format!("{} is in place", path.display())
            }
            FetchEvent::Begins { address, have: 0, bytes } => format!("{address}: {} bytes", thousands(bytes)),
            FetchEvent::Begins { address, have, bytes } => {
                format!("{address}: continued at {} of {} bytes", thousands(have), thousands(bytes))
            }
            FetchEvent::Progress { have, bytes } if told.elapsed() >= BETWEEN => {
                format!("    {} of {} bytes", thousands(have), thousands(bytes))
            }
            FetchEvent::Progress { .. } => return,
            FetchEvent::Placed { path } => {
                files.push(path.display().to_string());
                format!("{} placed", path.display())
            }
        };
        told = Instant::now();
        if !global.quiet {
            message(&line);
        }
    })?;
    files.retain(|path| std::path::Path::new(path).exists());
    report.line(&format!("{name} in {}", folder.display()))?;
    report.set("dataset", name);
    report.set("folder", folder.display().to_string());
    report.set("files", files);
    report.finish()
}
