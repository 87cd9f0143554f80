//! `qat data`: the datasets there are, and whether their files are the published ones.

use qat_train::data::{Verdict, check, list};
use serde_json::json;

use crate::args::{Data, Global};
use crate::error::CliError;
use crate::output::{Report, thousands};

/// Does what the arguments say.
pub fn run(command: &Data, global: &Global) -> Result<(), CliError> {
    match command {
        Data::List => show(global),
        Data::Check { name } => verify(name, global),
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
    let entry = |entry: &qat_train::data::Entry| {
        json!({
            "name": entry.name,
            "description": entry.description,
            "licence": entry.licence,
            "folder": entry.folder.as_ref().map(|folder| folder.display().to_string()),
        })
    };
    report.set("datasets", datasets.iter().map(entry).collect::<Vec<_>>());
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
    report.set("dataset", found.name.as_str());
    report.set("folder", found.folder.display().to_string());
    report.set("train", found.train);
    report.set("test", found.test);
    report.set("shape", found.shape.to_vec());
    report.set("classes", found.classes);
    report.set("files", found.files.iter().map(|file| file.path.display().to_string()).collect::<Vec<_>>());
    report.set("verdicts", found.files.iter().map(|file| verdict(file.verdict)).collect::<Vec<_>>());
    report.finish()
}
