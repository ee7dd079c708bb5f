//! A table of the file while it is read. Asking for a key makes it known; what nobody asked for is an unknown key.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::report::Report;
use super::value::{Node, Read, kind};
use crate::config::Problem;
use crate::config::source::SMALLEST;
use crate::nearest::nearest;

/// A key's name and a value that would be right, as it is written in TOML.
#[derive(Clone, Copy)]
pub(super) struct Key(pub(super) &'static str, pub(super) &'static str);

impl Key {
    fn advice(self) -> String {
        format!("write for example `{} = {}`", self.0, self.1)
    }
}

/// A table of the file while it is read.
pub(super) struct Section<'a, 'r> {
    path: String,
    repeated: bool,
    span: Range<usize>,
    table: Option<&'a DeTable<'a>>,
    known: Vec<&'static str>,
    report: &'r mut Report,
}

impl<'a, 'r> Section<'a, 'r> {
    /// The file itself.
    pub(super) fn root(table: &'a DeTable<'a>, report: &'r mut Report) -> Self {
        Self {
            path: String::new(),
            repeated: false,
            span: 0..0,
            table: Some(table),
            known: Vec::new(),
            report,
        }
    }

    /// Where the section begins: its header.
    pub(super) fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    pub(super) const fn report(&mut self) -> &mut Report {
        self.report
    }

    /// A key that may be absent. A problem with its value is reported, and the key counts as absent.
    pub(super) fn optional<T>(
        &mut self,
        key: Key,
        read: impl FnOnce(&Node<'a>) -> Read<T>,
    ) -> Option<Spanned<T>> {
        let node = self.node(key.0)?;
        let span = node.span();
        match read(node) {
            Ok(value) => Some(Spanned::new(span, value)),
            Err(problem) => {
                self.report.add(problem.complete(&span, || key.advice()));
                None
            }
        }
    }

    /// A key that must be there; `None` after a report.
    pub(super) fn required<T>(
        &mut self,
        key: Key,
        read: impl FnOnce(&Node<'a>) -> Read<T>,
    ) -> Option<Spanned<T>> {
        if self.node(key.0).is_none() {
            let problem = self.missing(key);
            self.report.add(problem);
        }
        self.optional(key, read)
    }

    /// A key with a default.
    pub(super) fn or<T>(&mut self, key: Key, read: impl FnOnce(&Node<'a>) -> Read<T>, default: T) -> T {
        self.optional(key, read).map_or(default, Spanned::into_inner)
    }

    /// A table that may be absent.
    pub(super) fn section(&mut self, name: &'static str) -> Option<Section<'a, '_>> {
        let node = self.node(name)?;
        self.open(name, node, false)
    }

    /// A table that is read as an empty one when it is absent, so that its required keys are missed.
    pub(super) fn required_section(&mut self, name: &'static str) -> Option<Section<'a, '_>> {
        match self.node(name) {
            Some(node) => self.open(name, node, false),
            None => Some(self.inner(name, false, 0..0, None)),
        }
    }

    /// Every table of an array of tables; those that `read` finds wrong are left out after a report.
    pub(super) fn sections<T>(
        &mut self,
        name: &'static str,
        read: impl Fn(Section<'a, '_>) -> Option<T>,
    ) -> Vec<T> {
        let Some(node) = self.node(name) else { return Vec::new() };
        let DeValue::Array(array) = node.get_ref() else {
            let header = self.path_of(name);
            let problem =
                Problem::new(format!("`{header}` is {}, not a list of tables", kind(node.get_ref())));
            self.report.add(problem.advise(format!("write [[{header}]], with two brackets")).at(node.span()));
            return Vec::new();
        };
        array.iter().filter_map(|node| self.open(name, node, true).and_then(&read)).collect()
    }

    /// Whether a key is written, right or wrong.
    pub(super) fn has(&self, name: &str) -> bool {
        self.table.is_some_and(|table| table.contains_key(name))
    }

    /// Whether nothing but this key is written.
    pub(super) fn has_only(&self, name: &str) -> bool {
        self.has(name) && self.table.is_some_and(|table| table.len() == 1)
    }

    /// Where the value of a key is written, if it is; the key is known from then on.
    pub(super) fn place_of(&mut self, name: &'static str) -> Option<Range<usize>> {
        self.node(name).map(Spanned::span)
    }

    /// Reports the keys that nobody asked for.
    pub(super) fn finish(self) {
        for key in self.table.into_iter().flatten().map(|(key, _)| key) {
            if !self.known.contains(&key.get_ref().as_ref()) {
                let message = format!("unknown key `{}` {}", key.get_ref().escape_debug(), self.place());
                let advice = unknown_key_advice(key.get_ref(), &self.known);
                self.report.add(Problem::new(message).advise(advice).at(key.span()));
            }
        }
    }

    fn open(&mut self, name: &str, node: &'a Node<'a>, repeated: bool) -> Option<Section<'a, '_>> {
        let table = self.table_of(name, node)?;
        Some(self.inner(name, repeated, node.span(), Some(table)))
    }

    fn inner(
        &mut self,
        name: &str,
        repeated: bool,
        span: Range<usize>,
        table: Option<&'a DeTable<'a>>,
    ) -> Section<'a, '_> {
        Section { path: self.path_of(name), repeated, span, table, known: Vec::new(), report: self.report }
    }

    fn table_of(&mut self, name: &str, node: &'a Node<'a>) -> Option<&'a DeTable<'a>> {
        let table = node.get_ref().as_table();
        if table.is_none() {
            let header = self.path_of(name);
            let problem = Problem::new(format!("`{header}` is {}, not a table", kind(node.get_ref())));
            self.report
                .add(problem.advise(format!("write [{header}], then one key per line")).at(node.span()));
        }
        table
    }

    fn node(&mut self, name: &'static str) -> Option<&'a Node<'a>> {
        if !self.known.contains(&name) {
            self.known.push(name);
        }
        self.table?.get(name)
    }

    fn missing(&self, key: Key) -> Problem {
        let Key(name, example) = key;
        let advice = match self.table {
            Some(_) => format!("add for example `{name} = {example}`"),
            None => format!("the smallest configuration is:\n{SMALLEST}"),
        };
        Problem::new(format!("`{name}` is missing {}", self.place())).advise(advice).at(self.span())
    }

    fn path_of(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    fn place(&self) -> String {
        match self.path.as_str() {
            "" => "at the top level".to_owned(),
            path if self.repeated => format!("in [[{path}]]"),
            path => format!("in [{path}]"),
        }
    }
}

fn unknown_key_advice(key: &str, known: &[&'static str]) -> String {
    if let Some(nearest) = nearest(key, known.iter().copied()) {
        format!("did you mean `{nearest}`?")
    } else {
        format!("the keys here are {}", list(known))
    }
}

/// The names in backquotes, with commas.
pub(super) fn list(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}
