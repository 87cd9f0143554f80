//! Curves as SVG.
//!
//! A drawing is text of a page, so it carries no fonts and no scripts. Points that are not finite are left out; a curve of many points
//! is drawn by the means of neighbours.

use super::page::escaped;
use plotters::prelude::SVGBackend;
use plotters::{
    chart::{ChartBuilder, SeriesLabelPosition},
    coord::Shift,
    drawing::{DrawingArea, DrawingAreaErrorKind, IntoDrawingArea},
    element::PathElement,
    series::LineSeries,
    style::{Color, RGBColor, ShapeStyle, WHITE},
};
use std::{io, ops::Range};

/// Points of a curve beyond which neighbours are drawn as one.
const POINTS: usize = 400;

const COLORS: [RGBColor; 4] = [RGBColor(59, 120, 176), RGBColor(214, 107, 40), RGBColor(60, 140, 80), RGBColor(130, 90, 160)];
const INK: RGBColor = RGBColor(28, 39, 51);
const GRID: RGBColor = RGBColor(225, 230, 235);

/// A named row of points.
pub(super) struct Curve {
    pub(super) name: String,
    pub(super) points: Vec<(f64, f64)>,
}

/// A drawing to be made.
pub(super) struct Plot<'a> {
    pub(super) title: &'a str,
    pub(super) x: &'a str,
    /// Width and height in pixels.
    pub(super) size: (u32, u32),
    pub(super) curves: Vec<Curve>,
}

impl Plot<'_> {
    /// The drawing as an `<svg>` element; `None` when no curve has a point.
    pub(super) fn svg(&self) -> io::Result<Option<String>> {
        let curves: Vec<(&str, Vec<(f64, f64)>)> = self
            .curves
            .iter()
            .map(|curve| (curve.name.as_str(), thinned(&curve.points)))
            .filter(|(_, p)| !p.is_empty())
            .collect();
        if curves.is_empty() {
            return Ok(None);
        }
        let all = || curves.iter().flat_map(|(_, points)| points);
        let (x, y) = (span(all().map(|point| point.0)), span(all().map(|point| point.1)));
        let mut svg = String::new();
        let root = SVGBackend::with_string(&mut svg, self.size).into_drawing_area();
        self.draw(&root, &curves, x, y).map_err(|error| match error {
            DrawingAreaErrorKind::BackendError(error) => io::Error::other(error.to_string()),
            error => io::Error::other(error.to_string()),
        })?;
        drop(root);
        Ok(Some(svg))
    }

    fn draw(
        &self,
        root: &DrawingArea<SVGBackend, Shift>,
        curves: &[(&str, Vec<(f64, f64)>)],
        x: Range<f64>,
        y: Range<f64>,
    ) -> Result<(), DrawingAreaErrorKind<io::Error>> {
        root.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(root)
            .caption(self.title, ("sans-serif", 15, &INK))
            .margin(8)
            .x_label_area_size(34)
            .y_label_area_size(52)
            .build_cartesian_2d(x, y)?;
        chart
            .configure_mesh()
            .x_desc(self.x)
            .x_labels(6)
            .y_labels(6)
            .bold_line_style(GRID)
            .light_line_style(WHITE.mix(0.0))
            .axis_style(INK)
            .label_style(("sans-serif", 12, &INK))
            .x_label_formatter(&|value| short(*value))
            .y_label_formatter(&|value| short(*value))
            .draw()?;
        for (index, (name, points)) in curves.iter().enumerate() {
            let color = COLORS[index % COLORS.len()];
            let style = ShapeStyle { color: color.to_rgba(), filled: points.len() == 1, stroke_width: 2 };
            let series = LineSeries::new(points.iter().copied(), style).point_size(if points.len() < 30 { 2 } else { 0 });
            let legend = move |(x, y)| PathElement::new(vec![(x, y), (x + 14, y)], style);
            chart.draw_series(series)?.label(*name).legend(legend);
        }
        if curves.len() > 1 {
            chart
                .configure_series_labels()
                .position(SeriesLabelPosition::UpperRight)
                .background_style(WHITE.mix(0.8))
                .border_style(GRID)
                .label_font(("sans-serif", 12, &INK))
                .draw()?;
        }
        root.present()
    }
}

/// Horizontal bars as an `<svg>` element, the longest for the largest value; a value below 0 has no bar.
pub fn bars(values: &[(String, f64)]) -> String {
    use std::fmt::Write;
    const ROW: usize = 24;
    const NAMES: f64 = 260.0;
    const LONGEST: f64 = 560.0;
    let most = values.iter().map(|(_, value)| *value).fold(1.0, f64::max);
    let mut svg = format!("<svg width=\"900\" height=\"{}\" role=\"img\" font-size=\"13\">\n", values.len() * ROW);
    for (index, (name, value)) in values.iter().enumerate() {
        let (top, length) = (index * ROW, value.max(0.0) / most * LONGEST);
        let _ = writeln!(
            svg,
            "<text x=\"0\" y=\"{}\">{}</text><rect class=\"bar\" x=\"{NAMES}\" y=\"{}\" width=\"{length:.1}\" height=\"16\"/>\
             <text x=\"{:.1}\" y=\"{}\">{value:.1}</text>",
            top + 16,
            escaped(name),
            top + 4,
            NAMES + length + 8.0,
            top + 16,
        );
    }
    svg.push_str("</svg>");
    svg
}

/// The finite points, of which neighbours are joined into their means where there are too many.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let finite: Vec<(f64, f64)> = points.iter().copied().filter(|(x, y)| x.is_finite() && y.is_finite()).collect();
    let together = finite.len().div_ceil(POINTS).max(1);
    let mean = |group: &[(f64, f64)]| {
        let sum = group.iter().fold((0.0, 0.0), |sum, point| (sum.0 + point.0, sum.1 + point.1));
        (sum.0 / group.len() as f64, sum.1 / group.len() as f64)
    };
    finite.chunks(together).map(mean).collect()
}

/// The smallest interval of some extent that holds `values`.
fn span(values: impl Iterator<Item = f64>) -> Range<f64> {
    let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
    let least = (low.abs().max(high.abs()) * 1e-3).max(1e-9);
    if high - low > least { low..high } else { low - least..high + least }
}

/// A number on an axis.
fn short(value: f64) -> String {
    match value.abs() {
        0.0 => "0".into(),
        size if !(1e-3..1e5).contains(&size) => format!("{value:.1e}"),
        size if size >= 10.0 => trimmed(format!("{value:.1}")),
        _ => trimmed(format!("{value:.4}")),
    }
}

fn trimmed(text: String) -> String {
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plot(title: &str, points: Vec<(f64, f64)>) -> Plot<'_> {
        Plot { title, x: "step", size: (400, 240), curves: vec![Curve { name: "a".into(), points }] }
    }

    #[test]
    fn a_curve_is_drawn_through_its_points() {
        let svg = plot("loss", vec![(0.0, 1.0), (1.0, 0.5), (2.0, f64::NAN), (3.0, 0.25)]).svg().unwrap().unwrap();
        let elements = svg.split("<polyline").filter_map(|part| part.split("/>").next());
        let line = elements.into_iter().find(|element| element.contains("#3B78B0")).unwrap();
        let points = line.split("points=\"").nth(1).unwrap().split('"').next().unwrap();
        assert_eq!(points.split_whitespace().count(), 3, "{points}");
        let places: Vec<Vec<f64>> =
            points.split_whitespace().map(|point| point.split(',').map(|x| x.parse().unwrap()).collect()).collect();
        assert!(places.windows(2).all(|pair| pair[1][0] > pair[0][0] && pair[1][1] > pair[0][1]), "the curve falls: {places:?}");
    }

    #[test]
    fn names_are_escaped() {
        let svg = plot("<script>&", vec![(0.0, 1.0)]).svg().unwrap().unwrap();
        assert!(svg.contains("&lt;script&gt;&amp;") && !svg.contains("<script"), "{svg}");
        assert!(bars(&[("\"conv\"".into(), 40.0), ("fc".into(), -3.0)]).contains("&quot;conv&quot;"));
    }

    #[test]
    fn nothing_to_draw_is_no_drawing() {
        assert_eq!(plot("x", vec![(0.0, f64::INFINITY)]).svg().unwrap(), None);
    }

    #[test]
    fn many_points_become_their_means() {
        let points: Vec<(f64, f64)> = (0..4 * POINTS).map(|x| (x as f64, f64::from(x as u32 % 4))).collect();
        let thin = thinned(&points);
        assert_eq!(thin.len(), POINTS);
        assert_eq!(thin[1], (5.5, 1.5));
    }

    #[test]
    fn numbers_on_axes_are_short() {
        assert_eq!([0.0, 0.25, 12.0, 1e-5, -2.5e6].map(short), ["0", "0.25", "12", "1.0e-5", "-2.5e6"]);
    }
}
