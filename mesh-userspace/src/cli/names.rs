//! What people abbreviate: names of services by how they begin, addresses of backends by how they end.
//!
//! Only the command line does so; the API takes whole names, and says of those that nobody has what was meant.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::args::{Abbreviated, BackendArgs, Whose};
use super::error::CliError;
use crate::api::Client;

/// A backend of a service, by whole names.
#[derive(Debug)]
pub(super) struct Target {
    /// The service.
    pub(super) service: String,
    /// The backend.
    pub(super) backend: IpAddr,
}

/// The backend that is meant.
///
/// # Errors
/// Several may be meant, none, or the agent does not answer.
pub(super) async fn target(agent: &Client, of: &BackendArgs) -> Result<Target, CliError> {
    let service = service(agent, &of.service).await?;
    let backend = address(agent, Some(&service), &of.backend).await?;
    Ok(Target { service, backend })
}

/// The service that is meant. A name that none begins with is returned as it is, for the agent to refuse.
///
/// # Errors
/// Several may be meant, or the agent does not answer.
pub(super) async fn service(agent: &Client, given: &str) -> Result<String, CliError> {
    let names = agent.services().await?.into_iter().map(|service| service.name);
    let begin: BTreeSet<String> = names.filter(|name| name.starts_with(given)).collect();
    if begin.contains(given) {
        return Ok(given.to_owned());
    }
    only("service", given, begin).map(|name| name.unwrap_or_else(|| given.to_owned()))
}

/// The backend that is meant, of a service or of any.
///
/// # Errors
/// Several may be meant, none, or the agent does not answer.
pub(super) async fn address(
    agent: &Client,
    service: Option<&str>,
    given: &Abbreviated,
) -> Result<IpAddr, CliError> {
    let ending = match given {
        Abbreviated::Address(address) => return Ok(*address),
        Abbreviated::Ending(ending) => ending,
    };
    let backends = agent.backends(service).await?.into_iter().map(|backend| backend.address);
    let end = backends.filter(|address| ends(address, ending)).collect();
    let address = only("backend", ending, end)?.and_then(|address| address.parse().ok());
    address.ok_or_else(|| CliError::NobodyEnds {
        ending: ending.clone(),
        service: service.map(ToOwned::to_owned),
    })
}

/// An option's value, if it was given.
pub(super) async fn service_if_any(agent: &Client, given: Option<&str>) -> Result<Option<String>, CliError> {
    match given {
        Some(given) => service(agent, given).await.map(Some),
        None => Ok(None),
    }
}

/// The service and the backend that are meant, if they were given.
pub(super) async fn whose(agent: &Client, of: &Whose) -> Result<(Option<String>, Option<IpAddr>), CliError> {
    let service = service_if_any(agent, of.service.as_deref()).await?;
    let backend = match &of.backend {
        Some(given) => Some(address(agent, service.as_deref(), given).await?),
        None => None,
    };
    Ok((service, backend))
}

/// Whether an address ends with these whole parts.
fn ends(address: &str, ending: &str) -> bool {
    let is_separator = |c: char| c == '.' || c == ':';
    address.strip_suffix(ending).is_some_and(|begin| {
        begin.is_empty() || begin.ends_with(is_separator) || ending.starts_with(is_separator)
    })
}

fn only(kind: &'static str, given: &str, mut found: BTreeSet<String>) -> Result<Option<String>, CliError> {
    if found.len() > 1 {
        return Err(CliError::Ambiguous {
            kind,
            given: given.to_owned(),
            found: found.into_iter().collect(),
        });
    }
    Ok(found.pop_first())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_stand_for_several_is_refused_with_them() {
        let found = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(only("service", "w", found(&["web"])).unwrap(), Some("web".to_owned()));
        assert_eq!(only("service", "w", found(&[])).unwrap(), None);
        let error = only("service", "w", found(&["web", "wiki"])).unwrap_err();
        assert_eq!(error.to_string(), "w may be any service of: web, wiki");
        let many: Vec<String> = (1..=20).map(|number| format!("10.0.{number}.1")).collect();
        let error = only("backend", ".1", many.into_iter().collect()).unwrap_err();
        assert!(error.to_string().ends_with("10.0.16.1 and 12 more"), "{error}");
    }

    #[test]
    fn an_address_ends_with_whole_parts() {
        for (address, ending, is) in [
            ("10.0.1.11", ".11", true),
            ("10.0.1.11", "11", true),
            ("10.0.1.11", "1.11", true),
            ("10.0.1.11", "1", false),
            ("10.0.1.11", ".1", false),
            ("10.0.11.1", "1.1", false),
            ("fd00::1a", ":1a", true),
            ("fd00::1a", "1a", true),
            ("fd00::1a", "a", false),
        ] {
            assert_eq!(ends(address, ending), is, "{address} {ending}");
        }
    }
}
