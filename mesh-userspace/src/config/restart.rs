//! What a reload cannot change.

use super::{Agent, Api, Config, Limits, Log, Metrics, Probing, Web};

/// A key and whether its value changed.
type Change = (&'static str, bool);

impl Config {
    /// The keys whose values differ in `new` and take effect only when the agent starts; services are not among them.
    #[must_use]
    pub fn restart_needed(&self, new: &Self) -> Vec<&'static str> {
        let changes = agent(&self.agent, &new.agent)
            .into_iter()
            .chain(faces(self, new))
            .chain(limits(self.limits, new.limits))
            .chain(probing(self.probing, new.probing));
        changes.filter_map(|(key, changed)| changed.then_some(key)).collect()
    }
}

/// Names every field, so that a new one does not compile until it is compared.
fn agent(old: &Agent, new: &Agent) -> [Change; 10] {
    let Agent {
        interfaces,
        xdp_mode,
        on_exit,
        pin_path,
        state_directory,
        watch_config,
        seed,
        outer_source,
        answer_echo,
        next_program,
    } = old;
    [
        ("agent.interfaces", *interfaces != new.interfaces),
        ("agent.xdp_mode", *xdp_mode != new.xdp_mode),
        ("agent.on_exit", *on_exit != new.on_exit),
        ("agent.pin_path", *pin_path != new.pin_path),
        ("agent.state_directory", *state_directory != new.state_directory),
        ("agent.watch_config", *watch_config != new.watch_config),
        ("agent.seed", *seed != new.seed),
        ("agent.outer_source", *outer_source != new.outer_source),
        ("agent.answer_echo", *answer_echo != new.answer_echo),
        ("agent.next_program", *next_program != new.next_program),
    ]
}

fn faces(old: &Config, new: &Config) -> [Change; 8] {
    let (Api { socket }, Metrics { listen }, Log { format, level }) = (&old.api, &old.metrics, &old.log);
    let Web { listen: web, token_file } = &old.web;
    [
        ("api.socket", *socket != new.api.socket),
        ("metrics.listen", *listen != new.metrics.listen),
        ("web.listen", *web != new.web.listen),
        ("web.token_file", *token_file != new.web.token_file),
        ("log.format", *format != new.log.format),
        ("log.level", *level != new.log.level),
        ("flow_log", old.flow_log != new.flow_log),
        ("otlp", old.otlp != new.otlp),
    ]
}

fn limits(old: Limits, new: Limits) -> [Change; 7] {
    let Limits { services, backends, slots, rules, flows, connections, prefixes } = old;
    [
        ("limits.services", services != new.services),
        ("limits.backends", backends != new.backends),
        ("limits.slots", slots != new.slots),
        ("limits.rules", rules != new.rules),
        ("limits.flows", flows != new.flows),
        ("limits.connections", connections != new.connections),
        ("limits.prefixes", prefixes != new.prefixes),
    ]
}

fn probing(old: Probing, new: Probing) -> [Change; 3] {
    let Probing { at_once, mark, correlated } = old;
    [
        ("health.at_once", at_once != new.at_once),
        ("health.mark", mark != new.mark),
        ("health.correlated", correlated != new.correlated),
    ]
}
