//! How `meshlb top` looks: 80 columns and 24 lines suffice, more are used.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Cell, Paragraph, Row as TableRow, Table, TableState};

use super::model::{Action, HISTORY, Mode, Model, Row, Sort};
use crate::cli::format::{age, count};

/// Lines of problems and drops that are shown at most.
const PROBLEMS: usize = 3;
const DROPS: usize = 4;

/// Heights of a sparkline's bars.
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Colours, or none.
#[derive(Clone, Copy, Debug)]
pub(super) struct Palette {
    /// Whether there are colours (`NO_COLOR` is not set).
    pub(super) colours: bool,
}

impl Palette {
    fn of(self, colour: Color) -> Style {
        if self.colours { Style::new().fg(colour) } else { Style::new() }
    }

    fn state(self, state: &str) -> Style {
        match state {
            "ok" | "up" => self.of(Color::Green),
            "down" | "panic" | "unresolved" => self.of(Color::Red).add_modifier(Modifier::BOLD),
            _ => self.of(Color::Yellow),
        }
    }
}

/// Draws everything.
pub(super) fn draw(frame: &mut Frame<'_>, model: &Model, palette: Palette) {
    let problems = problems(model, palette);
    let outcomes = outcomes(model);
    let heights = [
        Constraint::Length(1),
        Constraint::Length(u16::try_from(problems.len()).unwrap_or(0)),
        Constraint::Min(3),
        Constraint::Length(u16::try_from(outcomes.len()).unwrap_or(0)),
        Constraint::Length(1),
        Constraint::Length(1),
    ];
    let [head, trouble, table, drops, why, foot] = Layout::vertical(heights).areas(frame.area());
    frame.render_widget(Paragraph::new(headline(model, palette)), head);
    frame.render_widget(Paragraph::new(problems), trouble);
    rows(frame, table, model, palette);
    frame.render_widget(Paragraph::new(outcomes), drops);
    frame.render_widget(Paragraph::new(explanation(model)), why);
    frame.render_widget(Paragraph::new(footer(model)), foot);
}

fn headline(model: &Model, palette: Palette) -> Line<'static> {
    let Some(status) = model.status() else { return Line::from("meshlb top: waiting for the agent") };
    let (word, style) =
        if status.ready { ("ready", palette.state("ok")) } else { ("NOT READY", palette.state("down")) };
    let interfaces: Vec<String> =
        status.interfaces.iter().map(|it| format!("{} {}", it.name, it.mode)).collect();
    Line::from(vec![
        Span::from(format!("meshlb {}  ", status.version)),
        Span::styled(word, style),
        Span::from(format!(
            "  up {}  {}  flows {}/{}",
            age(status.uptime_seconds),
            interfaces.join(", "),
            count(status.flows.used),
            count(status.flows.capacity)
        )),
    ])
}

fn problems(model: &Model, palette: Palette) -> Vec<Line<'static>> {
    let all = model.status().map(|status| status.problems.as_slice()).unwrap_or_default();
    let line = |text: String| Line::styled(format!("! {text}"), palette.state("panic"));
    let mut lines: Vec<_> = all.iter().take(PROBLEMS).map(|it| line(it.replace('\n', " "))).collect();
    if all.len() > PROBLEMS {
        lines.push(line(format!("{} more: meshlb status", all.len() - PROBLEMS)));
    }
    lines
}

fn rows(frame: &mut Frame<'_>, area: Rect, model: &Model, palette: Palette) {
    let (what, share) = if model.inside.is_some() { ("BACKEND", "SHARE") } else { ("SERVICE", "UP") };
    let mark = |name: &str, sort: Sort| {
        let mark = if model.sort == sort { "▾" } else { "" };
        format!("{name}{mark}")
    };
    let header = [
        mark(what, Sort::Name),
        "STATE".to_owned(),
        share.to_owned(),
        mark("PKT/S", Sort::Packets),
        mark("BIT/S", Sort::Bytes),
        mark("FLOW/S", Sort::Flows),
        "FLOWS".to_owned(),
        "LAST SECONDS".to_owned(),
    ];
    let widths = [
        Constraint::Fill(1),
        Constraint::Length(11),
        Constraint::Length(8),
        Constraint::Length(6),
        Constraint::Length(6),
        Constraint::Length(7),
        Constraint::Length(5),
        Constraint::Length(HISTORY),
    ];
    let lines = model.rows();
    let table = Table::new(lines.iter().map(|row| line(row, palette)), widths)
        .header(TableRow::new(header).style(Style::new().add_modifier(Modifier::BOLD)))
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
    let mut state = TableState::new().with_selected(Some(model.selected()));
    frame.render_stateful_widget(table, area, &mut state);
}

fn line(row: &Row, palette: Palette) -> TableRow<'static> {
    TableRow::new([
        Cell::from(row.name.clone()),
        Cell::from(row.state.clone()).style(palette.state(&row.state)),
        Cell::from(row.share.clone()),
        Cell::from(rate(row.rates.packets)),
        Cell::from(rate(row.rates.bytes * 8.0)),
        Cell::from(rate(row.rates.flows)),
        Cell::from(count(row.recorded)),
        Cell::from(sparkline(&row.history)),
    ])
}

/// A rate as people read it; less than ten has a decimal.
fn rate(per_second: f64) -> String {
    if per_second > 0.0 && per_second < 9.95 {
        return format!("{per_second:.1}");
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "rates are counts")]
    count(per_second.round() as u64)
}

/// Values as bars; nothing is the lowest.
fn sparkline(values: &[u64]) -> String {
    let most = values.iter().copied().max().unwrap_or(0).max(1);
    let last = BARS.len() - 1;
    let bar = |value: &u64| {
        let height = u128::from(*value) * u128::try_from(last).unwrap_or(0) / u128::from(most);
        BARS.get(usize::try_from(height).unwrap_or(last)).copied().unwrap_or(' ')
    };
    values.iter().map(bar).collect()
}

fn outcomes(model: &Model) -> Vec<Line<'static>> {
    let shown = model.outcomes().iter().take(DROPS);
    let mut lines: Vec<_> =
        shown.map(|(name, per_second)| Line::from(format!("{name:16} {:>7}/s", rate(*per_second)))).collect();
    if !lines.is_empty() {
        lines.insert(0, Line::styled("OUTCOME           PACKETS", Style::new().add_modifier(Modifier::BOLD)));
    }
    lines
}

/// The whole name of what is pointed at, and why it is as it is.
fn explanation(model: &Model) -> Line<'static> {
    let rows = model.rows();
    let row = rows.get(model.selected()).filter(|row| !row.reason.is_empty());
    Line::from(row.map(|row| format!("{}: {}", row.name, row.reason)).unwrap_or_default())
}

fn footer(model: &Model) -> Line<'static> {
    let text = match &model.mode {
        Mode::Filtering => format!("filter: {}_  (enter keeps it, esc clears it)", model.filter),
        Mode::Asking(Action::Drain { service, backend }) => format!("drain {backend} of {service}? y/n"),
        Mode::Asking(Action::Undrain { service, backend }) => format!("undrain {backend} of {service}? y/n"),
        Mode::Asking(Action::Quit) => "quit? y/n".to_owned(),
        Mode::Looking if !model.message.is_empty() => model.message.clone(),
        Mode::Looking if model.inside.is_some() => {
            "q quit  ↑↓ choose  esc back  d drain  u undrain  s sort  / filter".to_owned()
        }
        Mode::Looking => "q quit  ↑↓ choose  enter look into  s sort  / filter".to_owned(),
    };
    Line::from(text)
}
