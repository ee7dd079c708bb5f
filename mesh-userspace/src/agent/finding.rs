//! Services and backends by the names that people give them.

use super::{command::CommandError, state::Agent};
use crate::{config::Service, health, nearest};
use std::net::IpAddr;

impl Agent {
    pub(super) fn find_service(&self, name: &str) -> Result<&Service, CommandError> {
        let services = &self.config.services;
        services.iter().find(|service| service.name == name).ok_or_else(|| {
            let names = services.iter().map(|service| service.name.as_str());
            CommandError::not_found(format!("there is no service {name:?}")).advise(nearest::advice(
                name,
                names,
                "meshlb services",
            ))
        })
    }

    pub(super) fn find(&self, name: &str, backend: IpAddr) -> Result<health::Key, CommandError> {
        let service = self.find_service(name)?;
        if service.backends.iter().any(|known| known.address == backend) {
            return Ok(health::Key { service: service.key(), address: backend });
        }
        let message = format!("service {name:?} has no backend {backend}");
        Err(unknown(message, backend, [service], &format!("meshlb backends {name}")))
    }

    /// The services that have this backend; at least one.
    pub(super) fn services_with(&self, backend: IpAddr) -> Result<Vec<&Service>, CommandError> {
        let services = &self.config.services;
        let has = |service: &&Service| service.backends.iter().any(|it| it.address == backend);
        let found: Vec<_> = services.iter().filter(has).collect();
        if found.is_empty() {
            let message = format!("no service has a backend {backend}");
            return Err(unknown(message, backend, services, "meshlb backends"));
        }
        Ok(found)
    }
}

/// None of these services has this backend.
pub(super) fn unknown<'a>(
    message: String,
    backend: IpAddr,
    services: impl IntoIterator<Item = &'a Service>,
    list: &str,
) -> CommandError {
    let backends = services.into_iter().flat_map(|service| &service.backends);
    let known: Vec<String> = backends.map(|backend| backend.address.to_string()).collect();
    let known = known.iter().map(String::as_str);
    CommandError::not_found(message).advise(nearest::advice(&backend.to_string(), known, list))
}
