//! Services that are defined beside the files: which of the definitions apply.

use std::collections::BTreeMap;

use super::{Config, ConfigError, Service, Source};

/// Texts that each define the service of a name.
pub type Definitions = BTreeMap<String, String>;

/// What of some definitions applies.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Defined {
    /// The services, in the order of their names.
    pub services: Vec<Service>,
    /// The definitions that apply.
    pub good: Definitions,
    /// What is wrong with others, by the name of the service: the place and the first problem.
    pub refused: BTreeMap<String, String>,
}

impl Source {
    /// Takes of what is said now all that is valid beside the files, which win; of what is not valid, what was good before.
    /// What applies already wins over what is new. Keys of definitions begin with `prefix`.
    ///
    /// # Errors
    /// The files themselves are not valid.
    pub fn define(
        &self,
        prefix: &str,
        said: &Definitions,
        good: &Definitions,
    ) -> Result<Defined, ConfigError> {
        let mut chosen = said.clone();
        let mut refused = BTreeMap::new();
        loop {
            let applies = |(name, text): &(&String, &String)| good.get(*name) == Some(text);
            let (old, new): (Vec<_>, Vec<_>) = chosen.iter().partition(applies);
            let error = match self.beside(prefix, old.iter().chain(&new).copied()).parse() {
                Ok(config) => return Ok(defined(config, chosen, refused)),
                Err(error) if chosen.is_empty() => return Err(error),
                Err(error) => error,
            };
            let mut blamed = error.definitions();
            if blamed.is_empty() {
                // It is not the file, so one of them is too much, and that is the last one.
                self.parse()?;
                let last = new.last().or(old.last()).map(|(name, _)| ((*name).clone(), error.summary()));
                blamed.extend(last);
            }
            for (name, reason) in blamed {
                let before = good.get(&name).filter(|text| Some(*text) != chosen.get(&name));
                match before.filter(|_| !refused.contains_key(&name)) {
                    Some(text) => drop(chosen.insert(name.clone(), text.clone())),
                    None => drop(chosen.remove(&name)),
                }
                refused.entry(name).or_insert(reason);
            }
        }
    }
}

fn defined(config: Config, good: Definitions, refused: BTreeMap<String, String>) -> Defined {
    // The files define no service of such a name, or it would have been refused here.
    let mut services = config.services;
    services.retain(|service| good.contains_key(&service.name));
    services.sort_by(|one, other| one.name.cmp(&other.name));
    Defined { services, good, refused }
}
