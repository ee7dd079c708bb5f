//! Tables as `kubectl` and `ipvsadm` print them: no borders, upper-case header, numbers to the right.

use comfy_table::{CellAlignment, Table, presets};

/// Spaces between columns.
const GAP: u16 = 2;

/// A column: its header, and how its cells stand.
#[derive(Clone, Copy, Debug)]
pub(super) enum Column {
    /// Words, to the left.
    Text(&'static str),
    /// Numbers, to the right.
    Number(&'static str),
}

impl Column {
    const fn header(self) -> &'static str {
        match self {
            Self::Text(header) | Self::Number(header) => header,
        }
    }

    const fn alignment(self) -> CellAlignment {
        match self {
            Self::Text(_) => CellAlignment::Left,
            Self::Number(_) => CellAlignment::Right,
        }
    }
}

/// The rows below the columns' headers.
pub(super) fn table(columns: &[Column], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(columns.iter().map(|c| c.header()));
    table.add_rows(rows);
    for (column, shape) in table.column_iter_mut().zip(columns) {
        column.set_padding((0, GAP)).set_cell_alignment(shape.alignment());
    }
    table.trim_fmt()
}

/// Names and what belongs to them, without a header.
pub(super) fn pairs(rows: Vec<[String; 2]>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).add_rows(rows);
    table.column_iter_mut().for_each(|column| {
        column.set_padding((0, GAP));
    });
    table.trim_fmt()
}
