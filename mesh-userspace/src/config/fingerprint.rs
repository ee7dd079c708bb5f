//! A short name for what a configuration says, by which agents and times are compared.

use std::fmt::Write as _;

use ring::digest::{SHA256, digest};

use super::{Config, ProbeKind};

/// Bytes of the hash that are told: enough that no two configurations of a fleet meet by chance.
const BYTES: usize = 8;

impl Config {
    /// A hash of what is in force, however it is written. Secrets have no part in it, so that nobody can try them out on
    /// it: keys, the seed, and values of the headers of probes. Differs between versions of the agent.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let text = format!("{:?}", self.without_secrets());
        let mut shown = String::with_capacity(2 * BYTES);
        for byte in digest(&SHA256, text.as_bytes()).as_ref().iter().take(BYTES) {
            // Writing to a string does not fail.
            let _ = write!(shown, "{byte:02x}");
        }
        shown
    }

    /// What is left as it is shows no key: `Key` and `Tls` say so themselves.
    fn without_secrets(&self) -> Self {
        let mut shown = self.clone();
        shown.agent.seed = self.agent.seed.map(|_| 0);
        for health in shown.services.iter_mut().filter_map(|service| service.health.as_mut()) {
            if let ProbeKind::Http(probe) = &mut health.kind {
                probe.headers.iter_mut().for_each(|(_, value)| value.clear());
            }
        }
        shown
    }
}

#[cfg(test)]
mod tests {
    use crate::config::parse;

    fn fingerprint(agent: &str, service: &str) -> String {
        let text = format!(
            "[agent]\ninterfaces = [\"eth0\"]\n{agent}\n[[service]]\nname = \"web\"\nvip = \"203.0.113.10\"\nport = 443\n\
             forward = \"ipip\"\n{service}\n[[service.backend]]\naddress = \"10.0.0.1\"\n"
        );
        parse("test", &text).unwrap().fingerprint()
    }

    #[test]
    fn it_follows_what_is_said_and_not_how() {
        let plain = fingerprint("", "protocol = \"tcp\"");
        assert_eq!(plain.len(), 16);
        assert_eq!(plain, fingerprint("# a comment", "protocol   =   'tcp'"));
        assert_ne!(plain, fingerprint("", "protocol = \"udp\""));
        assert_ne!(plain, fingerprint("answer_echo = false", "protocol = \"tcp\""));
    }

    #[test]
    fn no_secret_has_a_part_in_it() {
        let seed = |seed: &str| fingerprint(&format!("seed = \"{seed}\""), "protocol = \"tcp\"");
        assert_eq!(seed("0123456789abcdef"), seed("fedcba9876543210"));
        assert_ne!(seed("0123456789abcdef"), fingerprint("", "protocol = \"tcp\""));
        let header = |name: &str, value: &str| {
            let health = format!("[service.health]\nkind = \"http\"\nheaders = {{ {name} = \"{value}\" }}");
            fingerprint("", &format!("protocol = \"tcp\"\n{health}"))
        };
        assert_eq!(header("Authorization", "Bearer 1"), header("Authorization", "Bearer 2"));
        assert_ne!(header("Authorization", "Bearer 1"), header("X-Other", "Bearer 1"));
    }
}
