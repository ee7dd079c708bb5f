//! Files that a configuration includes: what they may hold, and where it stands among all files.

use std::ops::Range;
use std::path::PathBuf;

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::report::Report;
use super::section::Section;
use super::service::{self, Placed};
use super::value::{self, Node, Read};
use super::{definition, syntax};
use crate::config::Problem;
use crate::config::source::SourceFile;

/// What an included file may hold.
pub(super) const SERVICE: &str = "service";

/// The directory that a text includes and where it says so, if it does; whether it is right otherwise is found out later.
pub(in crate::config) fn include(text: &str) -> Option<(PathBuf, Range<usize>)> {
    let root = DeTable::parse(text).ok()?;
    let node = root.get_ref().get("include")?;
    Some((directory(node).ok()?, node.span()))
}

/// A directory; one whose path does not begin with `/` lies beside the file.
pub(super) fn directory(node: &Node<'_>) -> Read<PathBuf> {
    match value::text(node)? {
        "" => Err(Problem::new("the path of the directory is empty")),
        path => Ok(path.into()),
    }
}

/// A file's table, whose places are those among all files.
pub(super) fn parsed(file: &SourceFile) -> Result<DeTable<'_>, Problem> {
    let table = if file.defines.is_some() { definition::table(&file.text) } else { toml(&file.text) };
    let table = table.map_err(|problem| problem.moved(file.start))?;
    Ok(if file.start == 0 { table } else { moved_table(table, file.start) })
}

/// The table that a text in TOML is.
pub(super) fn toml(text: &str) -> Result<DeTable<'_>, Problem> {
    DeTable::parse(text).map(Spanned::into_inner).map_err(|error| syntax::problem(&error))
}

/// The services of an included file, which holds nothing else.
pub(super) fn services(table: &DeTable<'_>, main: &str, report: &mut Report) -> Vec<Placed> {
    refuse_others(table, ("a file that is included", main), report);
    Section::root(table, report).sections(SERVICE, service::service)
}

/// Refuses what is no service in a place for services; it belongs to the main file.
pub(super) fn refuse_others(table: &DeTable<'_>, (place, main): (&str, &str), report: &mut Report) {
    for key in table.iter().map(|(key, _)| key).filter(|key| key.get_ref() != SERVICE) {
        let message = format!("`{}` in {place}", key.get_ref().escape_debug());
        let advice = format!("such a file holds [[service]] only: move this to {main}");
        report.add(Problem::new(message).advise(advice).at(key.span()));
    }
}

fn moved_table(table: DeTable<'_>, by: usize) -> DeTable<'_> {
    table.into_iter().map(|(key, node)| (shifted(key, by), moved(node, by))).collect()
}

fn moved(node: Spanned<DeValue<'_>>, by: usize) -> Spanned<DeValue<'_>> {
    let span = node.span();
    let value = match node.into_inner() {
        DeValue::Table(table) => DeValue::Table(moved_table(table, by)),
        DeValue::Array(array) => {
            DeValue::Array(array.into_iter().map(|node| moved(node, by)).collect::<DeArray<'_>>())
        }
        value @ (DeValue::String(_)
        | DeValue::Integer(_)
        | DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_)) => value,
    };
    shifted(Spanned::new(span, value), by)
}

fn shifted<T>(placed: Spanned<T>, by: usize) -> Spanned<T> {
    let Range { start, end } = placed.span();
    Spanned::new(start.saturating_add(by)..end.saturating_add(by), placed.into_inner())
}
