//! `report.html`: a run on one page, made from the files of its directory.

use super::{
    confusion::Confusion,
    layers,
    number::thousands,
    page::{Page, escaped},
    plot::{Curve, Plot},
    ranges::{self, RangeRow},
};
use crate::{
    atomic::write_file,
    error::TrainError,
    fit::Phase,
    metrics::{self, Row, Source},
    run::{Results, RunDirectory},
};
use std::fmt::Write;

/// Writes `report.html` from what the run directory holds by now.
///
/// # Errors
///
/// [`TrainError::Malformed`] for a file that this program did not write, [`TrainError::Io`].
pub fn write_report(run: &RunDirectory) -> Result<(), TrainError> {
    write_file("write report", &run.report(), page(run)?.as_bytes())
}

fn page(run: &RunDirectory) -> Result<String, TrainError> {
    let manifest = run.manifest();
    let rows = metrics::read(&run.metrics())?;
    let mut page = Page::new(&format!("{} on {}, scheme {}", manifest.model, manifest.dataset, manifest.scheme));
    let draw = |plot: Plot| plot.svg().map_err(|source| TrainError::Io { action: "draw", path: run.report(), source });

    page.heading("Results");
    match run.results()? {
        Some(results) => results_table(&mut page, &results),
        None => so_far(&mut page, &rows),
    }
    for phase in phases(&rows) {
        page.heading(match phase {
            Phase::Float => "Float training",
            Phase::Qat => "Quantization-aware training",
        });
        let rows: Vec<&Row> = rows.iter().filter(|row| row.phase == phase).collect();
        let plots = [
            curves("loss", &rows, |row| Some(f64::from(row.loss))),
            curves("accuracy, %", &rows, |row| Some(f64::from(row.accuracy))),
            curves("learning rate", &rows, Row::learning_rate),
        ];
        let drawings: Vec<Option<String>> = plots.into_iter().map(draw).collect::<Result<_, _>>()?;
        page.figures(&drawings.into_iter().flatten().collect::<Vec<_>>());
    }
    let ranges = ranges::read(&run.ranges())?;
    if !ranges.is_empty() {
        page.heading("Ranges of the quantizers");
        page.note("The real numbers of the lowest and the highest code after calibration (step 0) and after each epoch.");
        let drawings: Vec<Option<String>> = trajectories(&ranges).into_iter().map(draw).collect::<Result<_, _>>()?;
        page.figures(&drawings.into_iter().flatten().collect::<Vec<_>>());
    }
    if let Some(confusion) = Confusion::read(&run.confusion())? {
        page.heading("Confusion matrix");
        matrix(&mut page, &confusion);
    }
    let layers = layers::read(&run.layers())?;
    if !layers.is_empty() {
        page.heading("Layers");
        page.note("A grid marked \" is that of the layer's input.");
        page.layer_table(&layers);
    }
    page.heading("Settings");
    let toml = toml::to_string(manifest).map_err(|error| TrainError::Io {
        action: "write report",
        path: run.report(),
        source: std::io::Error::other(error),
    })?;
    page.preformatted(&toml);
    Ok(page.finish())
}

/// The phases that have rows, in order.
fn phases(rows: &[Row]) -> Vec<Phase> {
    let mut phases: Vec<Phase> = rows.iter().map(|row| row.phase).collect();
    phases.dedup();
    phases
}

/// The table of the final numbers.
fn results_table(page: &mut Page, results: &Results) {
    let mut table = vec![["", "accuracy", "bytes"].map(str::to_owned).to_vec()];
    let bytes = |value: Option<u64>| value.map_or_else(String::new, thousands);
    for (name, accuracy, size) in results.table() {
        table.push(vec![name.into(), format!("{accuracy:.2} %"), bytes(size)]);
    }
    page.table(&table);
    if let Some(samples) = results.samples {
        page.note(&format!("Measured on {} test images.", thousands(samples as u64)));
    }
    if let Some(agreement) = results.agreement {
        page.note(&format!("Fake quantization and integers name one class on {agreement:.2} % of the images."));
    }
}

/// Where training stands before there are final numbers.
fn so_far(page: &mut Page, rows: &[Row]) {
    let mut table = vec![["phase", "epoch", "step", "validation loss", "validation accuracy"].map(str::to_owned).to_vec()];
    for phase in phases(rows) {
        let evaluations = || rows.iter().filter(|row| row.phase == phase && row.source == Source::Model);
        let best = evaluations().max_by(|a, b| a.accuracy.total_cmp(&b.accuracy));
        for (label, row) in [("last", evaluations().next_back()), ("best", best)] {
            let Some(row) = row else { continue };
            table.push(vec![
                format!("{phase}, {label}"),
                row.epoch.to_string(),
                row.step.to_string(),
                format!("{:.4}", row.loss),
                format!("{:.2} %", row.accuracy),
            ]);
        }
    }
    page.note("The run is not finished.");
    page.table(&table);
}

/// A quantity of training steps and of evaluations over the steps of a phase.
fn curves<'a>(title: &'a str, rows: &[&Row], quantity: impl Fn(&Row) -> Option<f64>) -> Plot<'a> {
    let points = |is_kind: fn(&Source) -> bool| -> Vec<_> {
        let of_kind = rows.iter().filter(|row| is_kind(&row.source));
        of_kind.filter_map(|row| Some((row.step as f64, quantity(row)?))).collect()
    };
    let mut curves = vec![
        Curve { name: "train".into(), points: points(|source| matches!(source, Source::Step { .. })) },
        Curve { name: "validation".into(), points: points(|source| *source == Source::Model) },
    ];
    let average = points(|source| *source == Source::Average);
    if !average.is_empty() {
        curves.push(Curve { name: "moving average".into(), points: average });
    }
    Plot { title, x: "step", size: (460, 300), curves }
}

/// A drawing for each quantizer: both ends of its range.
fn trajectories(ranges: &[RangeRow]) -> Vec<Plot<'_>> {
    let mut names: Vec<&str> = Vec::new();
    for row in ranges {
        if !names.contains(&row.quantizer.as_str()) {
            names.push(&row.quantizer);
        }
    }
    let plot = |name| {
        let points = |end: fn(&RangeRow) -> f32| {
            let own = ranges.iter().filter(|row| row.quantizer == name);
            own.map(|row| (row.step as f64, f64::from(end(row)))).collect()
        };
        let curves = vec![
            Curve { name: "min".into(), points: points(|row| row.min) },
            Curve { name: "max".into(), points: points(|row| row.max) },
        ];
        Plot { title: name, x: "step", size: (320, 220), curves }
    };
    names.into_iter().map(plot).collect()
}

/// Classes beyond which the matrix gives way to its worst pairs.
const WHOLE_MATRIX: usize = 40;

/// The matrix, darker for a larger share of the true class, or the pairs that are confused most.
fn matrix(page: &mut Page, confusion: &Confusion) {
    let Confusion { model, classes, counts } = confusion;
    let recalls = confusion.recalls();
    let recall = |class: usize| if recalls[class].is_finite() { format!("{:.1} %", recalls[class]) } else { "-".into() };
    if classes.len() > WHOLE_MATRIX {
        let mut pairs: Vec<(u64, usize, usize)> = Vec::new();
        for (class, row) in counts.iter().enumerate() {
            pairs.extend(
                row.iter().enumerate().filter(|(named, n)| *named != class && **n > 0).map(|(named, n)| (*n, class, named)),
            );
        }
        pairs.sort_by(|a, b| b.0.cmp(&a.0).then(a.cmp(b)));
        page.note(&format!("The pairs of classes that the {model} model confuses most."));
        let mut table = vec![["true class", "taken for", "images", "right of the true class"].map(str::to_owned).to_vec()];
        for (images, class, named) in pairs.into_iter().take(WHOLE_MATRIX) {
            table.push(vec![classes[class].clone(), classes[named].clone(), thousands(images), recall(class)]);
        }
        return page.table(&table);
    }
    page.note(&format!("Of the {model} model: a row is a true class, a column the class it was taken for."));
    let mut html = String::from("<table class=\"matrix\">\n<tr><th></th>");
    for class in classes {
        let _ = write!(html, "<th>{}</th>", escaped(class));
    }
    html.push_str("<th>right</th></tr>\n");
    for (class, row) in counts.iter().enumerate() {
        let _ = write!(html, "<tr><th>{}</th>", escaped(&classes[class]));
        let total = row.iter().sum::<u64>().max(1);
        for (named, &count) in row.iter().enumerate() {
            let share = count as f64 / total as f64;
            let color = if class == named { "59,120,176" } else { "214,107,40" };
            // A few mistakes must be visible beside many right images.
            let shade = if class == named { share * 0.8 } else { share.sqrt() };
            let _ = write!(html, "<td style=\"background:rgba({color},{shade:.2})\">{count}</td>");
        }
        let _ = writeln!(html, "<td>{}</td></tr>", recall(class));
    }
    html.push_str("</table>\n");
    page.push(&html);
}
