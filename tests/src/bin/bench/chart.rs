//! The ratios as a bar chart.
//!
//! Invariant: every figure has one bar, one label that names its group and its case, and its number, in this order.

use std::path::Path;

use anyhow::{Context, Result};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::report::Figure;

/// Pixels.
const WIDTH: u32 = 960;
const LABELS: u32 = 330;
const ROW: u32 = 24;
const HEAD: u32 = 40;
const FOOT: u32 = 56;
const MARGIN: u32 = 20;

/// Of a row, how much its bar takes.
const BAR: f64 = 0.7;

/// Bars begin at the floor, which is 1 by definition; the axis goes on to its left.
const FLOOR: f64 = 1.0;
const LEAST: f64 = 0.8;

/// Draws to a file.
pub(crate) fn write(path: &Path, figures: &[Figure]) -> Result<()> {
    std::fs::write(path, svg(figures)?).with_context(|| format!("cannot write {}", path.display()))
}

fn svg(figures: &[Figure]) -> Result<String> {
    let mut text = String::new();
    let rows = u32::try_from(figures.len())?;
    let area = SVGBackend::with_string(&mut text, (WIDTH, HEAD + ROW * rows + FOOT)).into_drawing_area();
    draw(&area, figures, f64::from(rows)).context("the chart cannot be drawn")?;
    drop(area);
    Ok(text)
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

fn draw(area: &Area<'_>, figures: &[Figure], rows: f64) -> Result<()> {
    area.fill(&WHITE)?;
    let least = figures.iter().map(|figure| figure.ratio * 0.9).fold(LEAST, f64::min);
    let most = figures.iter().map(|figure| figure.ratio * 1.3).fold(10.0, f64::max);
    let mut chart = ChartBuilder::on(area)
        .caption("Time per packet, as a multiple of the floor", ("sans-serif", 18))
        .margin(MARGIN)
        .set_label_area_size(LabelAreaPosition::Left, LABELS)
        .set_label_area_size(LabelAreaPosition::Bottom, FOOT - MARGIN)
        .build_cartesian_2d((least..most).log_scale(), rows..0.0)?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .disable_y_axis()
        .x_max_light_lines(0)
        .x_desc("logarithmic; the floor is 1")
        .x_label_formatter(&|ratio| format!("{ratio}"))
        .draw()?;
    let floor = [(FLOOR, 0.0), (FLOOR, rows)];
    chart.draw_series([PathElement::new(floor, BLACK)])?;
    let font = ("sans-serif", 14).into_font();
    let label = font.clone().into_text_style(area).pos(Pos::new(HPos::Right, VPos::Center));
    let number = font.into_text_style(area).pos(Pos::new(HPos::Left, VPos::Center));
    for ((row, figure), colour) in (0_u32..).zip(figures).zip(colours(figures)) {
        let (top, middle) = (f64::from(row) + (1.0 - BAR) / 2.0, f64::from(row) + 0.5);
        let ends = [(FLOOR, top), (figure.ratio, top + BAR)];
        chart.draw_series([Rectangle::new(ends, Palette99::pick(colour).filled())])?;
        let at_label = (least, middle);
        chart.draw_series([EmptyElement::at(at_label)
            + Text::new(caption(figure.group, figure.case), (-8, 0), label.clone())])?;
        let at_number = (figure.ratio.max(FLOOR), middle);
        chart
            .draw_series([EmptyElement::at(at_number)
                + Text::new(format!("{:.1}", figure.ratio), (6, 0), number.clone())])?;
    }
    Ok(area.present()?)
}

/// What stands beside a bar.
fn caption(group: &str, case: &str) -> String {
    format!("{group}: {case}")
}

/// The number of each figure's group: bars of a group have one colour.
fn colours(figures: &[Figure]) -> Vec<usize> {
    let mut groups: Vec<&str> = figures.iter().map(|figure| figure.group).collect();
    groups.dedup();
    let position =
        |figure: &Figure| groups.iter().position(|group| *group == figure.group).unwrap_or_default();
    figures.iter().map(position).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cases::GROUPS;
    use crate::report::Floor;

    /// The texts of a chart.
    fn texts(svg: &str) -> Vec<String> {
        let document = roxmltree::Document::parse(svg).unwrap();
        assert_eq!(document.root_element().tag_name().name(), "svg");
        let texts = document.descendants().filter(|node| node.has_tag_name("text"));
        texts.map(|node| node.text().unwrap_or_default().trim().to_owned()).collect()
    }

    /// Labels of bars, each with the number beside it.
    fn bars(svg: &str) -> Vec<(String, f64)> {
        let texts = texts(svg);
        let pairs = texts.windows(2).filter(|pair| pair[0].contains(": "));
        pairs.map(|pair| (pair[0].clone(), pair[1].parse().unwrap())).collect()
    }

    fn captions() -> Vec<String> {
        let of = |group: &'static crate::cases::Group| {
            group.cases.iter().map(|case| caption(group.name, case.name))
        };
        GROUPS.iter().flat_map(of).collect()
    }

    #[test]
    fn the_committed_chart_shows_every_case_and_no_other() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/performance.svg");
        let bars = bars(&std::fs::read_to_string(path).unwrap());
        let shown: Vec<String> = bars.iter().map(|(label, _)| label.clone()).collect();
        assert_eq!(shown, captions(), "draw it again: cargo xtask bench --svg docs/performance.svg");
        assert!(bars.iter().all(|(_, ratio)| *ratio > 0.0), "{bars:?}");
    }

    #[test]
    fn the_documented_figures_are_of_every_case_and_no_other() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/performance.md");
        let document = std::fs::read_to_string(path).unwrap();
        let (_, table) =
            document.split_once("| slots | packets | ratio to the floor |\n|---|---|---|\n").unwrap();
        let rows = table.lines().take_while(|line| line.starts_with('|'));
        let cells = rows.map(|row| row.split('|').map(str::trim).collect::<Vec<_>>());
        let documented: Vec<String> = cells.map(|cells| caption(cells[1], cells[2])).collect();
        assert_eq!(documented, captions());
    }

    #[test]
    fn a_bar_ends_at_its_number_on_either_side_of_the_floor() {
        let floor = Floor { ipv4: 10.0, ipv6: 10.0 };
        let figure = |case, nanoseconds| Figure::new("steady", case, nanoseconds, floor);
        let cases = GROUPS[0].cases;
        let svg = svg(&[figure(&cases[0], 25.0), figure(&cases[1], 5.0)]).unwrap();
        let expected = [(caption("steady", cases[0].name), 2.5), (caption("steady", cases[1].name), 0.5)];
        assert_eq!(bars(&svg), expected);
        let document = roxmltree::Document::parse(&svg).unwrap();
        let rectangles: Vec<[i32; 2]> = document
            .descendants()
            .filter(|node| node.has_tag_name("rect"))
            .map(|node| ["x", "width"].map(|key| node.attribute(key).unwrap().parse().unwrap()))
            .skip(1)
            .collect();
        let [[right, _], [left, width]] = rectangles[..] else { panic!("{rectangles:?}") };
        assert!((left + width - right).abs() <= 1, "one begins where the other ends: at the floor");
    }
}
