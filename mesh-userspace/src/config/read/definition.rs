//! A service that is defined elsewhere than in a file: the same text, in TOML or JSON.

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::include::{self, SERVICE};
use super::json;
use super::report::Report;
use super::section::Section;
use super::service::{self, Placed};
use crate::config::{ProbeKind, Problem};

/// The table of a definition: as if it were a file with one `[[service]]`, which needs not to be written.
pub(super) fn table(text: &str) -> Result<DeTable<'_>, Problem> {
    // What is no UTF-8 was made this where it came in.
    if let Some(at) = text.find(char::REPLACEMENT_CHARACTER) {
        return Err(Problem::new("this is not UTF-8 text").advise("write TOML or JSON").at(at..at));
    }
    // Nothing in TOML begins so.
    let is_json = text.trim_start().starts_with('{');
    let table = if is_json { json::table(text)? } else { include::toml(text)? };
    Ok(if table.contains_key(SERVICE) { table } else { around(table) })
}

/// A table with one service of these keys.
fn around(table: DeTable<'_>) -> DeTable<'_> {
    let service = DeArray::from_iter([Spanned::new(0..0, DeValue::Table(table))]);
    DeTable::from_iter([(Spanned::new(0..0, SERVICE.into()), Spanned::new(0..0, DeValue::Array(service)))])
}

/// The service of this name that a definition's table holds, and nothing else.
pub(super) fn service(table: &DeTable<'_>, name: &str, report: &mut Report) -> Option<Placed> {
    include::refuse_others(table, ("the definition of a service", "the file"), report);
    let services = Section::root(table, report).sections(SERVICE, service::service);
    let written = table.get(SERVICE)?;
    let count = written.get_ref().as_array().map_or(1, |services| services.len());
    if count != 1 {
        let problem = Problem::new(format!("there are {count} services, where one is defined"))
            .advise("give every service a key of its own");
        report.add(problem.at(written.span()));
        return None;
    }
    let placed = services.into_iter().next()?;
    if placed.service.name != name {
        let problem =
            Problem::new(format!("the name is {:?}, and the key's is {name:?}", placed.service.name))
                .advise(format!("write `name = {name:?}`, or store it under the other name"));
        report.add(problem.at(placed.name.clone()));
    }
    if let Some(ProbeKind::Command(..)) = placed.service.health.as_ref().map(|health| &health.kind) {
        // Whoever may write there would be whoever runs the agent.
        let problem = Problem::new("a service that runs commands cannot be defined here")
            .advise("write it to the file, or probe in another way");
        report.add(problem.at(placed.header.clone()));
    }
    Some(placed)
}
