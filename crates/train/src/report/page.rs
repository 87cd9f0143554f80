//! One self-contained page of HTML: no script, nothing loaded from elsewhere, and no text that can become markup.

use std::fmt::Write;

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:90rem;padding:0 1rem;color:#1c2733}\
table{border-collapse:collapse;font-variant-numeric:tabular-nums;margin:.5rem 0}th,td{padding:.25rem .6rem;text-align:right;\
border-bottom:1px solid #d5dce3}th:first-child,td:first-child,table.layers th:nth-child(2),table.layers td:nth-child(2)\
{text-align:left}th{border-bottom:2px solid #7a8a99}table.matrix td,table.matrix th{text-align:center;padding:.2rem .45rem}\
svg rect.bar{fill:#3b78b0}svg text{font-family:system-ui,sans-serif}.figures{display:flex;flex-wrap:wrap;gap:1rem}\
pre{background:#f3f5f7;padding:.6rem;overflow-x:auto}";

/// A page in the making; every text it is given is escaped.
#[derive(Clone, Debug)]
pub struct Page(String);

impl Page {
    /// A page with its title.
    pub fn new(title: &str) -> Self {
        let title = escaped(title);
        Self(format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>{title}</title>\n<style>{STYLE}</style>\n\
             </head>\n<body>\n<h1>{title}</h1>\n"
        ))
    }

    /// Adds the heading of a section.
    pub fn heading(&mut self, text: &str) {
        self.push(&format!("<h2>{}</h2>\n", escaped(text)));
    }

    /// Adds a paragraph.
    pub fn note(&mut self, text: &str) {
        self.push(&format!("<p>{}</p>\n", escaped(text)));
    }

    /// Adds text that keeps its lines.
    pub fn preformatted(&mut self, text: &str) {
        self.push(&format!("<pre>{}</pre>\n", escaped(text)));
    }

    /// Adds a table whose first row is its heading.
    pub fn table(&mut self, rows: &[Vec<String>]) {
        self.rows("<table>", rows);
    }

    /// Adds a table with two columns of names, layer and operation, before those of numbers.
    pub fn layer_table(&mut self, rows: &[Vec<String>]) {
        self.rows("<table class=\"layers\">", rows);
    }

    fn rows(&mut self, open: &str, rows: &[Vec<String>]) {
        self.push(open);
        self.push("\n");
        for (index, row) in rows.iter().enumerate() {
            let tag = if index == 0 { "th" } else { "td" };
            let cells = row.iter().fold(String::new(), |mut cells, cell| {
                let _ = write!(cells, "<{tag}>{}</{tag}>", escaped(cell));
                cells
            });
            self.push(&format!("<tr>{cells}</tr>\n"));
        }
        self.push("</table>\n");
    }

    /// Adds drawings side by side, each an `<svg>` element whose texts are escaped already.
    pub fn figures(&mut self, drawings: &[String]) {
        self.push("<div class=\"figures\">\n");
        for drawing in drawings {
            self.push(&format!("<div>{drawing}</div>\n"));
        }
        self.push("</div>\n");
    }

    /// Adds markup as it is; names and texts in it must be [`escaped`].
    pub(super) fn push(&mut self, markup: &str) {
        self.0.push_str(markup);
    }

    /// The whole page.
    pub fn finish(mut self) -> String {
        self.push("</body>\n</html>\n");
        self.0
    }
}

/// `text` as HTML shows it, whatever is in it.
pub fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            // HTML has no way to write the other control characters.
            c if c.is_control() && !matches!(c, '\n' | '\t') => safe.push(char::REPLACEMENT_CHARACTER),
            c => safe.push(c),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_never_becomes_markup() {
        let mut page = Page::new("a & b");
        page.heading("<h>");
        page.note("x < y");
        page.table(&[vec!["layer".into()], vec!["<script>".into()]]);
        page.preformatted("'q' \u{1}");
        let page = page.finish();
        let expected =
            ["<h1>a &amp; b</h1>", "&lt;h&gt;", "x &lt; y", "<th>layer</th>", "<td>&lt;script&gt;</td>", "&#39;q&#39; \u{fffd}"];
        for text in expected {
            assert!(page.contains(text), "{text} in {page}");
        }
        assert!(!page.contains("<script"));
    }
}
