//! Reads what a service is composed of: `[service.split]`, and `group` and `priority` of its backends and sources.

use std::collections::BTreeMap;

use toml::Spanned;

use super::report::Report;
use super::section::{Key, Section};
use super::service::{NAME_BYTES, is_name};
use super::value::{self, Node, Read};
use crate::config::{Group, Problem};

/// The shares of groups, each placed where it is written.
pub(super) type Split = BTreeMap<Group, Spanned<u16>>;

/// The split, if there is any that could be read.
pub(super) fn split_of(section: &mut Section<'_, '_>) -> Option<Spanned<Split>> {
    section.optional(Key("split", "{ stable = 95, canary = 5 }"), split)
}

fn split(node: &Node<'_>) -> Read<Split> {
    let table = node.get_ref().as_table().ok_or_else(|| {
        Problem::new(format!("the split is {}, not a table", value::kind(node.get_ref())))
            .advise("write [service.split], then one group per line with its share, such as `canary = 5`")
    })?;
    let each = table.iter().map(|(key, share)| {
        let group = name(key.get_ref()).map_err(|problem| problem.at(key.span()))?;
        let number = value::number("the share", 0..=u16::MAX)(share);
        let number = number
            .map_err(|problem| problem.complete(&share.span(), || "write a number such as 5".into()))?;
        Ok((group, Spanned::new(share.span(), number)))
    });
    let split: Split = each.collect::<Read<_>>()?;
    if split.values().all(|share| *share.get_ref() == 0) {
        return Err(Problem::new("the split leaves nobody a share")
            .advise("give at least one group a share above 0, such as `stable = 100`"));
    }
    Ok(split)
}

fn name(written: &str) -> Read<Group> {
    if is_name(written) {
        return Ok(Group::named(written));
    }
    Err(Problem::new(format!("{written:?} is not a group's name"))
        .advise(format!("write 1 to {NAME_BYTES} letters, digits, '-', '_' or '.', such as \"canary\"")))
}

/// The tier of a backend, or of all that a source knows.
pub(super) fn priority_of(section: &mut Section<'_, '_>) -> u16 {
    section.or(Key("priority", "1"), value::number("the priority", 0..=u16::MAX), 0)
}

/// The group of a backend, or of all that a source knows; one that the split does not have is reported.
pub(super) fn group_of(section: &mut Section<'_, '_>, split: Option<&Spanned<Split>>) -> Group {
    let is_written = section.has("group");
    let written = section.optional(Key("group", "\"canary\""), |node| name(value::text(node)?));
    let place = written.as_ref().map_or_else(|| section.span(), Spanned::span);
    let is_read = written.is_some() || !is_written;
    let group = written.map(Spanned::into_inner).unwrap_or_default();
    if let Some(split) = split.filter(|split| is_read && !split.get_ref().contains_key(&group)) {
        let problem =
            Problem::new(format!("the split gives the group {:?} no share", group.name())).advise(format!(
                "add `{group} = 5` to [service.split], or write the `group` of it that is meant here: {}",
                listed(split.get_ref())
            ));
        section.report().add(problem.at(place).beside(split.span(), "the split"));
    }
    group
}

fn listed(split: &Split) -> String {
    split.keys().map(|group| format!("\"{group}\"")).collect::<Vec<_>>().join(", ")
}

/// Reports groups of the split that nobody is of.
pub(super) fn check<'a>(
    split: Option<&Spanned<Split>>,
    members: impl Iterator<Item = &'a Group> + Clone,
    report: &mut Report,
) {
    for (group, share) in split.into_iter().flat_map(Spanned::get_ref) {
        if !members.clone().any(|member| member == group) {
            let problem = Problem::new(format!(
                "no backend and no source is of the group {:?}",
                group.name()
            ))
            .advise(format!(
                "write `group = \"{group}\"` at its backends or its source, or leave it out of the split"
            ));
            report.add(problem.at(share.span()));
        }
    }
}

/// The shares without their places.
pub(super) fn shares(split: Option<Spanned<Split>>) -> BTreeMap<Group, u16> {
    let split = split.map(Spanned::into_inner).unwrap_or_default();
    split.into_iter().map(|(group, share)| (group, share.into_inner())).collect()
}
