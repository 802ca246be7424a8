//! Line plots as inline SVG, coloured by the page's style sheet.

use std::fmt::Write as _;

use super::html::escape;
use super::table::number;

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

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 280.0;
const LEFT: f64 = 56.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 44.0;

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
        self.picture(&mut text, &drawn);
        text.push_str("</figure>");
        text
    }

    fn drawable(&self, series: &Series) -> Series {
        let fits = |(x, y): &(f64, f64)| x.is_finite() && y.is_finite() && (self.x_scale == Scale::Linear || *x > 0.0);
        Series { points: series.points.iter().copied().filter(fits).collect(), ..series.clone() }
    }

    fn picture(&self, text: &mut String, drawn: &[Series]) {
        let all = || drawn.iter().flat_map(|series| series.points.iter().copied());
        let x_low = all().map(|point| point.0).fold(f64::INFINITY, f64::min);
        let x_high = all().map(|point| point.0).fold(f64::NEG_INFINITY, f64::max);
        let y_high = all().map(|point| point.1).fold(0.0, f64::max);
        let x = Axis::new(self.x_scale, x_low, x_high, (LEFT, WIDTH - RIGHT));
        let y = Axis::new(Scale::Linear, 0.0, y_high, (HEIGHT - BOTTOM, TOP));
        let _ =
            write!(text, "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">", escape(self.title));
        for value in y.ticks() {
            let at = y.place(value);
            let _ = write!(
                text,
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>",
                WIDTH - RIGHT
            );
            let _ =
                write!(text, "<text class=\"y\" x=\"{:.1}\" y=\"{:.1}\">{}</text>", LEFT - 6.0, at + 4.0, tick(value));
        }
        for value in x.ticks() {
            let at = x.place(value);
            let bottom = HEIGHT - BOTTOM;
            let _ = write!(text, "<line class=\"grid\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{TOP}\" y2=\"{bottom}\"/>");
            let _ = write!(text, "<text class=\"x\" x=\"{at:.1}\" y=\"{:.1}\">{}</text>", bottom + 16.0, tick(value));
        }
        let middle = LEFT + (WIDTH - LEFT - RIGHT) / 2.0;
        let _ =
            write!(text, "<text class=\"x\" x=\"{middle}\" y=\"{:.1}\">{}</text>", HEIGHT - 8.0, escape(self.x_label));
        let _ = write!(
            text,
            "<text class=\"x\" transform=\"translate(12 {:.1}) rotate(-90)\">{}</text>",
            TOP + (HEIGHT - TOP - BOTTOM) / 2.0,
            escape(self.y_label)
        );
        for (index, series) in drawn.iter().enumerate().filter(|(_, series)| !series.points.is_empty()) {
            let _ = write!(text, "<path class=\"s{index}\" d=\"{}\"/>", path(series, &x, &y));
        }
        text.push_str("</svg>");
    }
}

fn path(series: &Series, x: &Axis, y: &Axis) -> String {
    let mut path = String::new();
    for (index, (at_x, at_y)) in series.points.iter().enumerate() {
        let (at_x, at_y) = (x.place(*at_x), y.place(*at_y));
        let _ = match (index, series.steps) {
            (0, _) => write!(path, "M{at_x:.1} {at_y:.1}"),
            (_, true) => write!(path, "H{at_x:.1}V{at_y:.1}"),
            (_, false) => write!(path, "L{at_x:.1} {at_y:.1}"),
        };
    }
    path
}

fn tick(value: f64) -> String {
    if value.fract() == 0.0 { format!("{value}") } else { number(value).trim_end_matches('0').to_owned() }
}

/// Values along one side of a plot.
struct Axis {
    scale: Scale,
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl Axis {
    fn new(scale: Scale, low: f64, high: f64, (from, to): (f64, f64)) -> Self {
        // A single value gets room on both sides, or above for nothing at all.
        let (low, high) = match scale {
            _ if high > low => (low, high),
            Scale::Logarithmic => (low / 2.0, low * 2.0),
            Scale::Linear => (low, low + low.abs().max(1.0)),
        };
        Self { scale, low, high, from, to }
    }

    fn place(&self, value: f64) -> f64 {
        let part = match self.scale {
            Scale::Linear => (value - self.low) / (self.high - self.low),
            Scale::Logarithmic => (value / self.low).ln() / (self.high / self.low).ln(),
        };
        self.from + part.clamp(0.0, 1.0) * (self.to - self.from)
    }

    /// Round values within the axis: 1, 2 or 5 times a power of ten, about six of them.
    fn ticks(&self) -> Vec<f64> {
        let logarithmic = match self.scale {
            Scale::Linear => Vec::new(),
            Scale::Logarithmic => self.logarithmic_ticks(),
        };
        // Less than one decade has too few of them.
        if logarithmic.len() > 1 { logarithmic } else { self.linear_ticks() }
    }

    fn linear_ticks(&self) -> Vec<f64> {
        let rough = (self.high - self.low) / 6.0;
        let power = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power).into_iter().find(|step| *step >= rough);
        let step = step.unwrap_or(rough);
        let first = (self.low / step).ceil();
        // At most six steps fit; one more for rounding.
        let values = (0..=7).map(|index| (first + f64::from(index)) * step);
        values.filter(|value| *value <= self.high * (1.0 + 1e-9)).collect()
    }

    fn logarithmic_ticks(&self) -> Vec<f64> {
        let (first, last) = (self.low.log10().floor() as i32, self.high.log10().ceil() as i32);
        let factors: &[f64] = if last - first > 3 { &[1.0] } else { &[1.0, 2.0, 5.0] };
        let values = (first..=last).flat_map(|power| factors.iter().map(move |factor| factor * 10f64.powi(power)));
        values.filter(|value| (self.low..=self.high).contains(value)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plot(points: Vec<(f64, f64)>, x_scale: Scale) -> Plot {
        let series = vec![Series { name: "a<b".to_owned(), points, steps: false }];
        Plot { title: "t", x_label: "x", y_label: "y", x_scale, series }
    }

    #[test]
    fn ticks_are_round_and_within_the_axis() {
        let linear = Axis::new(Scale::Linear, 0.0, 130.0, (0.0, 1.0));
        assert_eq!(linear.ticks(), [0.0, 50.0, 100.0]);
        let logarithmic = Axis::new(Scale::Logarithmic, 3.0, 300.0, (0.0, 1.0));
        assert_eq!(logarithmic.ticks(), [5.0, 10.0, 20.0, 50.0, 100.0, 200.0]);
        let narrow = Axis::new(Scale::Logarithmic, 51.0, 52.0, (0.0, 1.0));
        assert!(narrow.ticks().len() >= 5, "{:?}", narrow.ticks());
    }

    #[test]
    fn points_are_placed_between_the_edges() {
        let logarithmic = Axis::new(Scale::Logarithmic, 1.0, 100.0, (0.0, 10.0));
        assert!((logarithmic.place(10.0) - 5.0).abs() < 1e-9);
        let down = Axis::new(Scale::Linear, 0.0, 4.0, (10.0, 0.0));
        assert_eq!([down.place(0.0), down.place(1.0), down.place(4.0)], [10.0, 7.5, 0.0]);
    }

    #[test]
    fn what_cannot_be_drawn_is_left_out() {
        assert!(plot(vec![], Scale::Linear).html().contains("Not enough data"));
        let html = plot(vec![(0.0, 0.5), (1.0, f64::NAN), (1.0, 0.5), (2.0, 1.0)], Scale::Logarithmic).html();
        assert!(html.contains("<path") && !html.contains("NaN") && !html.contains("inf"), "{html}");
        assert!(html.contains("a&lt;b"));
        assert!(plot(vec![(1.0, 0.0), (1.0, 0.0)], Scale::Linear).html().contains("<path"));
    }
}
