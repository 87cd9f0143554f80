//! One self-contained page: a title, notes, a table, and bars that compare its rows. No script, nothing loaded from elsewhere.

use std::fmt::Write;

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:90rem;padding:0 1rem;color:#1c2733}\
table{border-collapse:collapse;font-variant-numeric:tabular-nums}th,td{padding:.25rem .6rem;text-align:right;\
border-bottom:1px solid #d5dce3}th:first-child,td:first-child,th:nth-child(2),td:nth-child(2){text-align:left}\
th{border-bottom:2px solid #7a8a99}rect{fill:#3b78b0}text{font:13px system-ui,sans-serif;fill:#1c2733}";

/// The page; `table` begins with its heading, `bars` are names and decibels.
pub fn page(title: &str, notes: &[&str], table: &[Vec<String>], bars: &[(String, f64)]) -> String {
    let title = escaped(title);
    let mut page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>{title}</title>\n<style>{STYLE}</style>\n\
         </head>\n<body>\n<h1>{title}</h1>\n"
    );
    for note in notes {
        page.push_str(&format!("<p>{}</p>\n", escaped(note)));
    }
    page.push_str("<table>\n");
    for (index, row) in table.iter().enumerate() {
        let tag = if index == 0 { "th" } else { "td" };
        let cells = row.iter().fold(String::new(), |mut cells, cell| {
            let _ = write!(cells, "<{tag}>{}</{tag}>", escaped(cell));
            cells
        });
        page.push_str(&format!("<tr>{cells}</tr>\n"));
    }
    page.push_str("</table>\n");
    if !bars.is_empty() {
        page.push_str("<h2>SQNR of the model's output with one layer alone quantized, dB</h2>\n");
        page.push_str(&chart(bars));
    }
    page.push_str("</body>\n</html>\n");
    page
}

/// Horizontal bars as SVG, the longest for the most decibels; a ratio below 0 dB has no bar.
fn chart(bars: &[(String, f64)]) -> String {
    const ROW: usize = 24;
    const NAMES: f64 = 260.0;
    const LONGEST: f64 = 560.0;
    let most = bars.iter().map(|(_, value)| *value).fold(1.0, f64::max);
    let mut svg = format!("<svg width=\"900\" height=\"{}\" role=\"img\">\n", bars.len() * ROW);
    for (index, (name, value)) in bars.iter().enumerate() {
        let (top, length) = (index * ROW, value.max(0.0) / most * LONGEST);
        let _ = writeln!(
            svg,
            "<text x=\"0\" y=\"{}\">{}</text><rect x=\"{NAMES}\" y=\"{}\" width=\"{length:.1}\" height=\"16\"/>\
             <text x=\"{:.1}\" y=\"{}\">{value:.1}</text>",
            top + 16,
            escaped(name),
            top + 4,
            NAMES + length + 8.0,
            top + 16,
        );
    }
    svg.push_str("</svg>\n");
    svg
}

/// Text that cannot become markup.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_never_becomes_markup() {
        let table = vec![vec!["layer".to_owned()], vec!["<script>".to_owned()]];
        let page = page("a & b", &["x < y"], &table, &[("\"conv\"".into(), 40.0), ("fc".into(), -3.0)]);
        for text in ["a &amp; b", "x &lt; y", "<th>layer</th>", "<td>&lt;script&gt;</td>", "&quot;conv&quot;", "width=\"0.0\""] {
            assert!(page.contains(text), "{text} in {page}");
        }
        assert!(!page.contains("<script"));
    }
}
