//! What comes out: for people and for programs.

use std::fs;
use std::thread::available_parallelism;

use anyhow::Result;
use serde::Serialize;

use super::measure::Figures;
use super::stage::Shape;
use crate::report::table;

/// The output of `-o json`.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    kernel: String,
    processors: usize,
    shapes: Vec<Row>,
}

#[derive(Debug, Serialize)]
struct Row {
    #[serde(flatten)]
    shape: Shape,
    #[serde(flatten)]
    figures: Figures,
}

impl Report {
    pub(super) fn new() -> Result<Self> {
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned();
        Ok(Self { kernel, processors: available_parallelism()?.get(), shapes: Vec::new() })
    }

    pub(super) fn add(&mut self, shape: Shape, figures: Figures) {
        self.shapes.push(Row { shape, figures });
    }

    pub(super) fn table(&self) -> String {
        let header = [
            "SERVICES X BACKENDS",
            "RELOAD (MS)",
            "DISCOVERY (MS)",
            "ORDER (MS)",
            "ONE IN A LIST (MS)",
            "MEMORY (MIB)",
            "IDLE (% CPU)",
            "PROBED (% CPU)",
        ];
        let mut table = table(header, 1);
        for Row { shape, figures } in &self.shapes {
            let Figures { reload, discovery, order, arrival, rss_mib, idle_percent, probed_percent } =
                figures;
            let numbers = [reload, discovery, order, arrival, rss_mib, idle_percent, probed_percent];
            let cells = numbers.map(|number| format!("{number:.1}"));
            table.add_row([shape.to_string()].into_iter().chain(cells));
        }
        let Self { kernel, processors, .. } = self;
        format!("Linux {kernel}, {processors} processors\n\n{}", table.trim_fmt())
    }
}
