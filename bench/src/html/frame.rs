//! The frame of a plot: its axes, their ticks and units, and what a reader who does not see it is told.

use super::escape;
use super::scale::Scale;

/// Units of the drawing, not of the screen: the page scales it.
pub(super) const WIDTH: f64 = 440.0;
/// Left of the axis stand its numbers.
const LEFT: f64 = 46.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 26.0;
const BOTTOM: f64 = 42.0;

/// What a plot is called, and what its axes are.
pub(super) struct Frame<'a> {
    pub(super) id: &'a str,
    pub(super) title: &'a str,
    pub(super) description: &'a str,
    pub(super) height: f64,
}

/// An axis: its scale, its unit, its ticks, and how these are written.
pub(super) struct Axis<'a> {
    pub(super) scale: Scale,
    pub(super) unit: &'a str,
    pub(super) ticks: Vec<f64>,
    pub(super) label: fn(f64) -> String,
}

impl Frame<'_> {
    /// The places between which values from left to right stand.
    pub(super) fn across() -> (f64, f64) {
        (LEFT, WIDTH - RIGHT)
    }

    /// The places between which values from the bottom up stand.
    pub(super) fn up(&self) -> (f64, f64) {
        (self.height - BOTTOM, TOP)
    }

    /// The whole drawing around its contents.
    pub(super) fn around(&self, contents: &str) -> String {
        let Self { id, title, description, height } = self;
        format!(
            "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-labelledby=\"{id}-title {id}-desc\">\n\
             <title id=\"{id}-title\">{}</title>\n<desc id=\"{id}-desc\">{}</desc>\n{contents}</svg>\n",
            escape(title),
            escape(description),
        )
    }

    /// Lines across at each tick of the axis that goes up, with the unit above it.
    pub(super) fn rows(&self, axis: &Axis<'_>) -> String {
        let (left, right) = Self::across();
        let row = |tick: &f64| {
            let y = axis.scale.place(*tick);
            format!(
                "<line class=\"grid\" x1=\"{left}\" x2=\"{right}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
                 <text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\n",
                left - 6.0,
                y + 4.0,
                (axis.label)(*tick)
            )
        };
        let unit = format!("<text class=\"unit\" x=\"4\" y=\"12\">{}</text>\n", escape(axis.unit));
        unit + &axis.ticks.iter().map(row).collect::<String>()
    }

    /// Ticks below, with the unit under them.
    pub(super) fn columns(&self, axis: &Axis<'_>) -> String {
        let (bottom, _) = self.up();
        let (left, right) = Self::across();
        let column = |tick: &f64| {
            let x = axis.scale.place(*tick);
            format!(
                "<line class=\"axis\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{bottom}\" y2=\"{:.1}\"/>\
                 <text class=\"tick\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\n",
                bottom + 4.0,
                bottom + 17.0,
                (axis.label)(*tick)
            )
        };
        let line =
            format!("<line class=\"axis\" x1=\"{left}\" x2=\"{right}\" y1=\"{bottom}\" y2=\"{bottom}\"/>\n");
        let unit = format!(
            "<text class=\"unit\" x=\"{right}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\n",
            self.height - 6.0,
            escape(axis.unit)
        );
        line + &axis.ticks.iter().map(column).collect::<String>() + &unit
    }
}
