//! What comes out: for people and for programs.

use anyhow::Result;
use comfy_table::{CellAlignment, Table, presets::NOTHING};
use serde::Serialize;

use crate::cases::{Case, Family, Way};
use crate::facts::Facts;

/// The output of `-o json`.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    kernel: String,
    processors: usize,
    pub(crate) cases: Vec<Figure>,
    pub(crate) programs: Vec<Facts>,
}

/// The floors in nanoseconds per packet.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Floor {
    pub(crate) ipv4: f64,
    pub(crate) ipv6: f64,
}

/// What was measured in one case.
#[derive(Debug, Serialize)]
pub(crate) struct Figure {
    pub(crate) group: &'static str,
    pub(crate) case: &'static str,
    /// Per packet, without the wrapper.
    nanoseconds: f64,
    /// The floors in the same rounds.
    floor: Floor,
    /// As a multiple of the IPv4 floor.
    pub(crate) ratio: f64,
    /// As a multiple of the floor that pushes the same outer header; of the IPv4 floor where there is none.
    ratio_to_own_floor: f64,
}

impl Figure {
    pub(crate) fn new(group: &'static str, case: &Case, nanoseconds: f64, floor: Floor) -> Self {
        let own = if case.way == Way::Outer(Family::V6) { floor.ipv6 } else { floor.ipv4 };
        let (ratio, ratio_to_own_floor) = (nanoseconds / floor.ipv4, nanoseconds / own);
        Self { group, case: case.name, nanoseconds, floor, ratio, ratio_to_own_floor }
    }
}

impl Report {
    pub(crate) fn new() -> Result<Self> {
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned();
        let processors = std::thread::available_parallelism()?.get();
        Ok(Self { kernel, processors, cases: Vec::new(), programs: Vec::new() })
    }

    /// Adds a group; the balancer's facts are the same in each, the first stand.
    pub(crate) fn add(&mut self, balancer: Vec<Facts>, figures: Vec<Figure>) {
        for facts in balancer {
            if !self.programs.iter().any(|known| known.program == facts.program) {
                self.programs.push(facts);
            }
        }
        self.cases.extend(figures);
    }

    pub(crate) fn table(&self) -> String {
        let about = format!("Linux {}, {} processors; medians per packet", self.kernel, self.processors);
        format!("{about}\n\n{}\n\n{}", self.figures().trim_fmt(), self.facts().trim_fmt())
    }

    fn figures(&self) -> Table {
        let mut table = table(["SLOTS", "PACKETS", "NS", "FLOOR", "RATIO", "OWN RATIO"], 2);
        for figure in &self.cases {
            table.add_row([
                figure.group.to_owned(),
                figure.case.to_owned(),
                format!("{:.1}", figure.nanoseconds),
                format!("{:.1}", figure.floor.ipv4),
                format!("{:.2}", figure.ratio),
                format!("{:.2}", figure.ratio_to_own_floor),
            ]);
        }
        table
    }

    fn facts(&self) -> Table {
        let mut table = table(["PROGRAM", "VERIFIED INSTRUCTIONS", "MACHINE CODE (BYTES)", "LOAD (MS)"], 1);
        for facts in &self.programs {
            table.add_row([
                facts.program.clone(),
                facts.verified_instructions.to_string(),
                facts.machine_code.to_string(),
                format!("{:.1}", facts.load_milliseconds),
            ]);
        }
        table
    }
}

/// An empty table; the columns after the first `names` are numbers.
pub(crate) fn table<const N: usize>(header: [&str; N], names: usize) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(header);
    for (position, column) in table.column_iter_mut().enumerate() {
        let side = if position < names { CellAlignment::Left } else { CellAlignment::Right };
        column.set_padding((0, 2)).set_cell_alignment(side);
    }
    table
}
