//! Line plots as inline SVG. Colours are attributes, which a page's style sheet overrides: there is no script, no
//! handler and no inline style, so that the strictest content policy shows them.

use std::fmt::Write as _;
use std::ops::Range;

use plotters::coord::ranged1d::{AsRangedCoord, ValueFormatter};
use plotters::prelude::*;

use super::markup::escape;
use super::table::number;

/// What plotters draws on, and how it fails.
type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;
type DrawingError = DrawingAreaErrorKind<std::io::Error>;

/// A line in a plot.
#[derive(Clone, Debug)]
pub(crate) struct Series {
    pub(crate) name: String,
    /// In order of x.
    pub(crate) points: Vec<(f64, f64)>,
    /// Draw the points as steps: the value holds until the next point.
    pub(crate) steps: bool,
}

/// How values of x are spread over the width.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scale {
    Linear,
    /// Equal ratios take equal widths; for values above 0.
    Logarithmic,
}

/// A plot of lines over common axes.
#[derive(Clone, Debug)]
pub(crate) struct Plot {
    pub(crate) title: &'static str,
    pub(crate) x_label: &'static str,
    pub(crate) y_label: &'static str,
    pub(crate) x_scale: Scale,
    pub(crate) series: Vec<Series>,
}

/// Of a picture, in its own units; it is shown as wide as there is room.
const SIZE: (u32, u32) = (720, 280);
/// The colours without a style sheet, which names them to change them (`page.css`).
const COLOURS: [RGBColor; 6] = [
    RGBColor(0x1b, 0x6c, 0xa8),
    RGBColor(0xc4, 0x54, 0x1c),
    RGBColor(0x2f, 0x85, 0x5a),
    RGBColor(0x8a, 0x4f, 0xb0),
    RGBColor(0xa6, 0x81, 0x1c),
    RGBColor(0x6b, 0x72, 0x80),
];
const TEXT: RGBColor = RGBColor(0x62, 0x6a, 0x73);
const GRID: RGBColor = RGBColor(0xdf, 0xe2, 0xe5);

impl Plot {
    /// A figure with its title, legend and picture; a sentence instead of the picture where there is nothing to draw.
    pub(crate) fn html(&self) -> String {
        let mut text = format!("<figure><figcaption>{}</figcaption>", escape(self.title));
        let drawn: Vec<Series> = self.series.iter().map(|series| self.drawable(series)).collect();
        if drawn.iter().all(|series| series.points.len() < 2) {
            text.push_str("<p class=\"empty\">Not enough data to draw.</p></figure>");
            return text;
        }
        let legend = drawn.iter().enumerate().filter(|(_, series)| !series.points.is_empty());
        text.push_str("<div class=\"legend\">");
        for (index, series) in legend {
            let _ = write!(text, "<span><i class=\"b{index}\"></i>{}</span>", escape(&series.name));
        }
        text.push_str("</div>");
        text.push_str(&self.picture(&drawn).expect("a text takes every line that is drawn into it"));
        text.push_str("</figure>");
        text
    }

    fn drawable(&self, series: &Series) -> Series {
        let fits = |(x, y): &(f64, f64)| x.is_finite() && y.is_finite() && (self.x_scale == Scale::Linear || *x > 0.0);
        Series { points: series.points.iter().copied().filter(fits).collect(), ..series.clone() }
    }

    fn picture(&self, drawn: &[Series]) -> Result<String, DrawingError> {
        let all = || drawn.iter().flat_map(|series| series.points.iter().copied());
        let x = range(self.x_scale, all().map(|point| point.0));
        let y = range(Scale::Linear, all().map(|point| point.1).chain([0.0]));
        let mut svg = String::new();
        {
            let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
            match self.x_scale {
                Scale::Linear => self.draw(&area, x, y, drawn)?,
                Scale::Logarithmic => self.draw(&area, x.log_scale(), y, drawn)?,
            }
            area.present()?;
        }
        // Within a page the name space goes without saying, and a picture has a name.
        let name = format!("role=\"img\" aria-label=\"{}\"", escape(self.title));
        Ok(svg.replacen("xmlns=\"http://www.w3.org/2000/svg\"", &name, 1))
    }

    fn draw<X>(&self, area: &Area<'_>, x: X, y: Range<f64>, drawn: &[Series]) -> Result<(), DrawingError>
    where
        X: AsRangedCoord<Value = f64>,
        X::CoordDescType: ValueFormatter<f64>,
    {
        let mut chart =
            ChartBuilder::on(area).margin(8).x_label_area_size(44).y_label_area_size(56).build_cartesian_2d(x, y)?;
        chart
            .configure_mesh()
            .x_desc(self.x_label)
            .y_desc(self.y_label)
            .x_labels(8)
            .y_labels(6)
            .x_label_formatter(&|value| tick(*value))
            .y_label_formatter(&|value| tick(*value))
            .label_style(("sans-serif", 15).into_font().color(&TEXT))
            .axis_style(GRID)
            .bold_line_style(GRID)
            .light_line_style(TRANSPARENT)
            .draw()?;
        for (series, colour) in drawn.iter().zip(COLOURS.iter().cycle()) {
            chart.draw_series(LineSeries::new(corners(series), colour.stroke_width(2)))?;
        }
        Ok(())
    }
}

/// From the least to the greatest value; a single value gets room on both sides, or above for nothing at all.
fn range(scale: Scale, values: impl Iterator<Item = f64>) -> Range<f64> {
    let (low, high) =
        values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
    match scale {
        _ if high > low => low..high,
        Scale::Logarithmic => low / 2.0..low * 2.0,
        Scale::Linear => low..low + low.abs().max(1.0),
    }
}

/// The points of the line; a step adds the corner before it.
fn corners(series: &Series) -> Vec<(f64, f64)> {
    let Some(&first) = series.points.first() else { return Vec::new() };
    let mut corners = vec![first];
    for pair in series.points.windows(2) {
        if series.steps {
            corners.push((pair[1].0, pair[0].1));
        }
        corners.push(pair[1]);
    }
    corners
}

fn tick(value: f64) -> String {
    if value.fract() == 0.0 { format!("{value}") } else { number(value).trim_end_matches('0').to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plot(points: Vec<(f64, f64)>, x_scale: Scale) -> Plot {
        let series = vec![Series { name: "a<b".to_owned(), points, steps: false }];
        Plot { title: "t", x_label: "x", y_label: "y", x_scale, series }
    }

    #[test]
    fn a_range_has_room_for_its_values() {
        assert_eq!(range(Scale::Linear, [3.0, 1.0, 2.0].into_iter()), 1.0..3.0);
        assert_eq!(range(Scale::Linear, [0.0].into_iter()), 0.0..1.0);
        assert_eq!(range(Scale::Linear, [-4.0].into_iter()), -4.0..0.0);
        assert_eq!(range(Scale::Logarithmic, [8.0, 8.0].into_iter()), 4.0..16.0);
    }

    #[test]
    fn a_step_holds_its_value_until_the_next_point() {
        let series = |steps| Series { name: String::new(), points: vec![(0.0, 1.0), (2.0, 5.0)], steps };
        assert_eq!(corners(&series(true)), [(0.0, 1.0), (2.0, 1.0), (2.0, 5.0)]);
        assert_eq!(corners(&series(false)), [(0.0, 1.0), (2.0, 5.0)]);
    }

    #[test]
    fn what_cannot_be_drawn_is_left_out() {
        assert!(plot(vec![], Scale::Linear).html().contains("Not enough data"));
        let html = plot(vec![(0.0, 0.5), (1.0, f64::NAN), (1.0, 0.5), (2.0, 1.0)], Scale::Logarithmic).html();
        assert!(html.contains("<polyline") && !html.contains("NaN") && !html.contains("inf"), "{html}");
        assert!(html.contains("a&lt;b"));
        assert!(plot(vec![(1.0, 0.0), (1.0, 0.0)], Scale::Linear).html().contains("<polyline"));
    }

    #[test]
    fn a_strict_content_policy_shows_the_picture() {
        let html = plot(vec![(0.5, 0.5), (300.0, 1.0)], Scale::Logarithmic).html();
        assert!(html.contains("<svg") && html.contains("role=\"img\" aria-label=\"t\""));
        for word in ["<script", "<style", " style=", " on", "href", "http", "url(", "<image", "<foreignObject"] {
            assert!(!html.contains(word), "{word}: {html}");
        }
    }

    #[test]
    fn the_style_sheet_names_every_colour() {
        let style = include_str!("page.css");
        for RGBColor(red, green, blue) in COLOURS.into_iter().chain([GRID]) {
            assert!(style.contains(&format!("[stroke=\"#{red:02X}{green:02X}{blue:02X}\"]")), "{red} {green} {blue}");
        }
    }
}
