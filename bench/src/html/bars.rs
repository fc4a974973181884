//! Ratios to the base: a block of bars a subject, a bar a size, with whiskers from the least round to the greatest.

use super::frame::{Frame, WIDTH};
use super::scale::{Scale, grouped, label};
use super::series::{Cast, Look};
use super::{escape, framed};
use crate::figure::{Better, Figure};
use crate::report::{Report, range, short};
use crate::stats::Spread;

/// Of a subject's name, and of each of its bars below.
const NAME: f64 = 22.0;
const ROW: f64 = 18.0;
const BOTTOM: f64 = 40.0;
/// Left of the bars stand sizes, right of them medians.
const LEFT: f64 = 78.0;
const RIGHT: f64 = 74.0;

struct Bar {
    size: String,
    ratio: Spread,
    is_noisy: bool,
}

/// A subject with its bars.
struct Block {
    subject: String,
    look: Look,
    bars: Vec<Bar>,
}

/// The plot; nothing where there are no ratios.
pub(super) fn plot(report: &Report, group: &[&Figure], cast: &Cast, id: &str) -> String {
    let blocks = blocks(report, group, cast);
    let (Some(head), Some(_)) = (group.first(), blocks.first()) else { return String::new() };
    let base = head.part.base().unwrap_or_default();
    let bottom = blocks.iter().map(Block::height).sum();
    let id = format!("{id}-bars");
    let title = format!("{}: ratio to {base}", head.workload);
    let description = "A bar for each subject and size. The table beside the plots has the same numbers.";
    let frame = Frame { id: &id, title: &title, description, height: bottom + BOTTOM };
    let most = blocks.iter().flat_map(|block| &block.bars).map(|bar| bar.ratio.max).fold(1.0, f64::max);
    let x = Scale::linear(0.0, most, (LEFT, WIDTH - RIGHT));
    let mut contents = columns(&x, bottom, base);
    let mut top = 0.0;
    for block in &blocks {
        contents += &block.draw(x, top);
        top += block.height();
    }
    let better = if head.better == Better::Less { "less is better" } else { "more is better" };
    let caption = format!("Ratio to {}, round by round: median, with min to max; {better}", escape(base));
    framed(&caption, "", &frame.around(&contents))
}

fn blocks(report: &Report, group: &[&Figure], cast: &Cast) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    for figure in group {
        let Some(ratio) = report.ratios(figure).and_then(|ratios| Spread::of(&ratios)) else { continue };
        let written = |number: u32| grouped(&number.to_string());
        let size = figure.size.map(|it| format!("{} × {}", written(it.services), written(it.endpoints)));
        let bar = Bar { size: size.unwrap_or_default(), ratio, is_noisy: report.is_noisy(figure) };
        match blocks.iter_mut().find(|block| block.subject == figure.subject) {
            Some(block) => block.bars.push(bar),
            None => {
                let (subject, look) = (figure.subject.clone(), cast.look(figure));
                blocks.push(Block { subject, look, bars: vec![bar] });
            }
        }
    }
    blocks
}

fn columns(x: &Scale, bottom: f64, base: &str) -> String {
    let column = |tick: f64| {
        let x = x.place(tick);
        format!(
            "<line class=\"grid\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{NAME}\" y2=\"{bottom}\"/>\
             <text class=\"tick\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\n",
            bottom + 14.0,
            label(tick)
        )
    };
    let unit = format!(
        "<text class=\"unit\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">× {}</text>\n",
        WIDTH - RIGHT,
        bottom + 32.0,
        escape(base)
    );
    x.ticks().into_iter().map(column).collect::<String>() + &unit
}

impl Block {
    fn height(&self) -> f64 {
        NAME + ROW * f64::from(u32::try_from(self.bars.len()).unwrap_or(u32::MAX))
    }

    /// The name, the bars, and the line at one, which is the base itself.
    fn draw(&self, x: Scale, top: f64) -> String {
        let name = format!(
            "<text class=\"name\" x=\"4\" y=\"{:.1}\">{}</text>\n",
            top + 15.0,
            escape(&self.subject)
        );
        let bar = |(at, bar): (u32, &Bar)| bar.draw(x, top + NAME + ROW * f64::from(at), self);
        let bars: String = (0_u32..).zip(&self.bars).map(bar).collect();
        let (one, from, to) = (x.place(1.0), top + NAME - 2.0, top + self.height());
        name + &bars
            + &format!(
                "<line class=\"one\" x1=\"{one:.1}\" x2=\"{one:.1}\" y1=\"{from:.1}\" y2=\"{to:.1}\"/>\n"
            )
    }
}

impl Bar {
    fn draw(&self, x: Scale, top: f64, block: &Block) -> String {
        let Self { size, ratio, is_noisy } = self;
        let (from, to, middle) = (x.place(0.0), x.place(ratio.median), top + ROW / 2.0);
        let (low, high) = (x.place(ratio.min), x.place(ratio.max));
        let reach =
            format!("<path class=\"reach\" d=\"M{low:.1} {:.1}v6m0-3H{high:.1}m0-3v6\"/>\n", middle - 3.0);
        let told = escape(&format!("{}, {size}: {} ({})", block.subject, short(ratio.median), range(ratio)));
        format!(
            "<text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{size}</text>\
             <rect class=\"bar {}\" x=\"{from:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"12\" rx=\"2\"><title>{told}</title></rect>\n{}\
             <text class=\"name value\" x=\"{:.1}\" y=\"{:.1}\">{}{}</text>\n",
            LEFT - 6.0,
            middle + 4.0,
            block.look.class,
            middle - 6.0,
            (to - from).max(0.5),
            if ratio.count > 1 { reach } else { String::new() },
            WIDTH - RIGHT + 8.0,
            middle + 4.0,
            short(ratio.median),
            if *is_noisy { " noisy" } else { "" },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figure::Part;
    use crate::report::Environment;

    #[test]
    fn a_bar_stands_for_each_subject_that_has_a_base() {
        let connection = |subject| Figure::new(Part::DataPlane, "new connection", subject);
        let mut report = Report::new("test", Environment::default());
        report.add(connection("direct").less("µs", &[10.0; 6]));
        report.add(connection("heddle <nft>").less("µs", &[12.0, 8.0, 15.0, 20.0, 11.0, 30.0]));
        let group: Vec<&Figure> = report.figures.iter().collect();
        let drawn = plot(&report, &group, &Cast::of(&report), "p");
        assert_eq!((drawn.matches("class=\"bar").count(), drawn.matches("class=\"reach").count()), (1, 1));
        for expected in
            ["heddle &lt;nft&gt;</text>", ">1.50 noisy</text>", "× direct</text>", "class=\"one\""]
        {
            assert!(drawn.contains(expected), "{expected} is not in\n{drawn}");
        }
        assert_eq!(plot(&report, &group[..1], &Cast::of(&report), "p"), "");
    }
}
