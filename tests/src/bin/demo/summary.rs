//! The summary: a table, and what is wrong in words.

use comfy_table::{CellAlignment, Table, presets};

use crate::phase::Phase;
use crate::stage::WEIGHTS;

/// Columns that are numbers.
const NUMBERS: std::ops::RangeInclusive<usize> = 1..=5;

/// All phases and their verdicts.
pub(crate) fn render(phases: &[Phase]) -> String {
    let wrong = phases.iter().flat_map(|phase| phase.wrong.iter().map(move |text| (&phase.title, text)));
    let sentences: String = wrong.map(|(title, text)| format!("\nwrong: {title}: {text}")).collect();
    format!("\n{}{sentences}", table(phases))
}

fn table(phases: &[Phase]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED).set_header(header()).add_rows(phases.iter().map(row));
    for column in table.column_iter_mut().enumerate().filter(|(index, _)| NUMBERS.contains(index)) {
        column.1.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn header() -> Vec<String> {
    let backends = (1..).zip(WEIGHTS).map(|(number, weight)| format!("backend-{number}\nweight {weight}"));
    let mut header: Vec<String> = ["phase", "requests", "failed"].map(str::to_owned).into();
    header.extend(backends);
    header.push("verdict".into());
    header
}

fn row(phase: &Phase) -> Vec<String> {
    let shares = phase.settled.shares().map(|share| format!("{:.1} %", share * 100.0));
    let mut row = vec![phase.title.clone(), phase.all.requests().to_string(), phase.all.failed().to_string()];
    row.extend(shares);
    row.push(if phase.is_right() { "ok" } else { "failed" }.into());
    row
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tally::Tally;

    fn phase(wrong: &[&str]) -> Phase {
        let settled = Tally { answered: [25, 25, 50], ..Tally::default() };
        let wrong = wrong.iter().map(|text| (*text).to_owned()).collect();
        Phase { title: "spread".into(), all: settled.clone(), settled, wrong }
    }

    #[test]
    fn a_right_phase_is_a_row_that_says_ok() {
        let text = render(&[phase(&[])]);
        let row = text.lines().find(|line| line.contains("spread")).unwrap();
        let cells: Vec<_> = row.split(['│', '┆']).map(str::trim).filter(|cell| !cell.is_empty()).collect();
        assert_eq!(cells, ["spread", "100", "0", "25.0 %", "25.0 %", "50.0 %", "ok"]);
        assert!(!text.contains("wrong"), "{text}");
    }

    #[test]
    fn a_wrong_phase_says_what_is_wrong() {
        let text = render(&[phase(&["it is late", "it is short"])]);
        assert!(text.ends_with("wrong: spread: it is late\nwrong: spread: it is short"), "{text}");
        assert!(text.lines().any(|line| line.contains("spread") && line.contains("failed")), "{text}");
    }
}
