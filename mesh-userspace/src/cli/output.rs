//! Where a command's answer goes.

use std::io::{self, Write};

use serde::Serialize;

use super::args::Format;
use super::error::CliError;

/// Standard output in the format that was asked for.
#[derive(Debug)]
pub struct Output<W> {
    format: Format,
    writer: W,
}

impl<W: Write> Output<W> {
    /// Prints to `writer`.
    pub fn new(format: Format, writer: W) -> Self {
        Self { format, writer }
    }

    /// Prints `value` as JSON, or as the text that `screen` makes of it.
    pub(super) fn show<T: Serialize>(
        &mut self,
        value: &T,
        screen: impl FnOnce(&T) -> String,
    ) -> Result<(), CliError> {
        let text = match self.format {
            Format::Table => screen(value),
            Format::Json => json(value)?,
        };
        self.print(&text)
    }

    /// Prints `value` on a line of its own: as JSON, or as the line that `screen` makes of it, if any.
    pub(super) fn line<T: Serialize, S: Into<Option<String>>>(
        &mut self,
        value: &T,
        screen: impl FnOnce(&T) -> S,
    ) -> Result<(), CliError> {
        let text = match self.format {
            Format::Table => screen(value).into(),
            Format::Json => {
                Some(serde_json::to_string(value).map_err(|error| CliError::Output(error.into()))?)
            }
        };
        text.map_or(Ok(()), |text| self.print(&text))
    }

    /// Prints bytes that are what was asked for, in whatever format.
    pub(super) fn raw(&mut self, bytes: &[u8]) -> Result<(), CliError> {
        self.writer.write_all(bytes).and_then(|()| self.writer.flush()).map_err(CliError::Output)
    }

    /// Prints a line for people who wait; programs get the end alone.
    pub(super) fn tell(&mut self, line: impl FnOnce() -> String) -> Result<(), CliError> {
        match self.format {
            Format::Table => self.print(&line()),
            Format::Json => Ok(()),
        }
    }

    fn print(&mut self, text: &str) -> Result<(), CliError> {
        let text = text.trim_end();
        writeln!(self.writer, "{text}").and_then(|()| self.writer.flush()).map_err(CliError::Output)
    }
}

fn json<T: Serialize>(value: &T) -> Result<String, CliError> {
    serde_json::to_string_pretty(value).map_err(|error| CliError::Output(io::Error::from(error)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::types::FlowUse;

    #[test]
    fn both_formats_end_with_one_newline() {
        let flows = FlowUse { used: 1, capacity: 2 };
        let shown = |format| {
            let mut bytes = Vec::new();
            Output::new(format, &mut bytes).show(&flows, |f| format!("{} flows\n", f.used)).unwrap();
            String::from_utf8(bytes).unwrap()
        };
        assert_eq!(shown(Format::Table), "1 flows\n");
        assert_eq!(shown(Format::Json), "{\n  \"used\": 1,\n  \"capacity\": 2\n}\n");
    }
}
