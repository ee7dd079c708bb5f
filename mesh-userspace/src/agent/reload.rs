//! A new configuration while the agent runs: all of it or nothing.

use super::{command::CommandError, state::Agent};
use crate::{
    api::types::ReloadReport,
    config::{Config, Service, ServiceKey, Source},
};
use std::collections::BTreeMap;
use tracing::{info, warn};

impl Agent {
    /// Reads the configuration again and acts on what changed. An invalid one changes nothing; what takes a restart
    /// stays as it is and is named.
    pub(super) fn reload(&mut self) -> Result<ReloadReport, CommandError> {
        let parsed = Source::read(&self.path).and_then(|source| source.parse());
        let config = parsed.map_err(|error| {
            self.reloads.failed += 1;
            CommandError::invalid(error.to_string()).advise("nothing was changed")
        })?;
        let report = report(&self.written, &config);
        // What takes a restart stays.
        self.written = Config { services: config.services, ..self.written.clone() };
        self.inputs.ask(&self.written);
        // Or a service whose backends move from the file to a source would have none in between.
        self.inputs.hear_out();
        self.take_in();
        if self.overrides.forget_missing(&self.config) {
            self.remember();
        }
        self.steer();
        self.reloads.ok += 1;
        for key in &report.restart_needed {
            warn!(key, "takes effect with a restart only");
        }
        info!(changed = report.changed, "reloaded the configuration");
        Ok(report)
    }
}

fn report(old: &Config, new: &Config) -> ReloadReport {
    let by_key = |config: &Config| -> BTreeMap<ServiceKey, Service> {
        config.services.iter().map(|service| (service.key(), service.clone())).collect()
    };
    let (before, after) = (by_key(old), by_key(new));
    let missing_in = |these: &BTreeMap<ServiceKey, Service>, those: &BTreeMap<ServiceKey, Service>| {
        these
            .iter()
            .filter(|(key, _)| !those.contains_key(key))
            .map(|(_, service)| service.name.clone())
            .collect()
    };
    let differs =
        |(key, service): &(&ServiceKey, &Service)| before.get(key).is_some_and(|old| old != *service);
    ReloadReport {
        changed: old != new,
        services_added: missing_in(&after, &before),
        services_removed: missing_in(&before, &after),
        services_changed: after.iter().filter(differs).map(|(_, service)| service.name.clone()).collect(),
        restart_needed: old.restart_needed(new).into_iter().map(str::to_owned).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    fn config(services: &[(&str, u16)]) -> Config {
        let service = |(name, port): &(&str, u16)| {
            format!(
                "[[service]]\nname = \"{name}\"\nvip = \"203.0.113.10\"\nport = {port}\nprotocol = \"tcp\"\n\
                 forward = \"ipip\"\n[[service.backend]]\naddress = \"10.0.0.1\"\n"
            )
        };
        let services: String = services.iter().map(service).collect();
        config::parse("test", &format!("[agent]\ninterfaces = [\"eth0\"]\n{services}")).unwrap()
    }

    #[test]
    fn a_report_names_what_came_went_and_changed() {
        let report = report(&config(&[("a", 1), ("b", 2)]), &config(&[("renamed", 2), ("c", 3)]));
        assert!(report.changed);
        assert_eq!(report.services_added, ["c"]);
        assert_eq!(report.services_removed, ["a"]);
        assert_eq!(report.services_changed, ["renamed"]);
        assert_eq!(report.restart_needed, Vec::<String>::new());
    }

    #[test]
    fn the_same_file_changes_nothing() {
        assert_eq!(report(&config(&[("a", 1)]), &config(&[("a", 1)])), ReloadReport::default());
    }
}
