//! Asks backends, once each: at their own addresses, and at their VIPs by the way of packets of clients. What answers and
//! what does not, together, tells what is wrong.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use tokio::sync::watch;

use super::Finding;
use super::ways::Hops;
use crate::config::{Config, Forward, ProbeKind, Protocol, Service};
use crate::delivery::Delivery;
use crate::health::{Key, Paths, ProbeError, Target, once, remove_rules};
use crate::nexthop::Resolution;

/// Backends that are asked at once.
const AT_ONCE: usize = 32;

/// How long a backend has for each answer, unless its service gives it longer: so much that no busy host is taken for one
/// that says nothing.
const PATIENCE: Duration = Duration::from_secs(1);

/// How often it is asked, as long as it does not answer: one packet may be lost.
const ATTEMPTS: usize = 2;

/// Asks the backends of all services that can be reached.
pub(super) async fn check(config: &Config, hops: &Hops) -> Vec<Finding> {
    // An agent that runs has the configured mark.
    let mark = config.probing.mark.wrapping_add(1).max(1);
    let (_hops, next_hops) = watch::channel(hops.clone());
    let paths = Paths::new(mark, next_hops);
    paths.deliver(deliveries(config));
    let mut findings = Vec::new();
    for service in &config.services {
        findings.extend(of_service(service, &paths, hops).await);
    }
    drop(paths);
    if let Err(error) = remove_rules(Some(mark)) {
        findings.push(
            Finding::warn("probe", "", format!("rules of policy routing stay: {error}"))
                .so("they lead nowhere", "meshlb detach removes them"),
        );
    }
    findings
}

fn deliveries(config: &Config) -> BTreeMap<Key, Delivery> {
    let of = |service: &Service| {
        let delivery = Delivery::of(service, config.agent.outer_source);
        let key = service.key();
        let addresses: Vec<_> = service.backends.iter().map(|backend| backend.address).collect();
        addresses.into_iter().map(move |address| (Key { service: key, address }, delivery))
    };
    config.services.iter().flat_map(of).collect()
}

async fn of_service(service: &Service, paths: &Paths, hops: &Hops) -> Vec<Finding> {
    let reachable = service.backends.iter().filter_map(|backend| match hops.get(&backend.address) {
        Some(Resolution::Resolved(hop)) if service.forward.reaches(hop) => {
            Some((backend.address, hop.direct))
        }
        Some(Resolution::Resolved(_) | Resolution::Unresolved { .. }) | None => None,
    });
    let asked = stream::iter(reachable).map(|(address, is_direct)| async move {
        let question = Question { service, address, is_direct };
        question.judge(&question.ask(paths).await)
    });
    let answers: Vec<Option<Finding>> = asked.buffered(AT_ONCE).collect().await;
    let all = answers.len();
    let mut findings: Vec<Finding> = answers.into_iter().flatten().collect();
    if findings.is_empty() && all > 0 {
        let found =
            format!("each of {all} backends answers, at its own address and at the VIP, long packets too");
        findings.push(Finding::ok("probe", &service.name, found));
    }
    findings
}

/// A backend that is asked.
struct Question<'a> {
    service: &'a Service,
    address: IpAddr,
    /// Whether it is a neighbour, not behind a router.
    is_direct: bool,
}

/// What was heard.
struct Answers {
    /// At the own address, in the way that its service is probed.
    own: Result<(), ProbeError>,
    /// An echo request to the own address.
    own_echo: bool,
    /// At the VIP, by the way of clients.
    vip: Result<(), ProbeError>,
    /// The same, by an echo request.
    vip_echo: bool,
    /// The same, as long as the way should allow.
    long_echo: bool,
}

impl Question<'_> {
    async fn ask(&self, paths: &Paths) -> Answers {
        let plain = self.kind();
        let at_vip =
            if matches!(self.service.protocol, Protocol::Tcp) { ProbeKind::Tcp } else { ProbeKind::Icmp };
        let (own, own_echo, vip, vip_echo, long_echo) = tokio::join!(
            self.at_own(&plain, self.probed_port()),
            self.at_own(&ProbeKind::Icmp, 0),
            self.at_vip(&at_vip, paths, false),
            self.at_vip(&ProbeKind::Icmp, paths, false),
            self.at_vip(&ProbeKind::Icmp, paths, true),
        );
        Answers {
            own,
            own_echo: own_echo.is_ok(),
            vip,
            vip_echo: vip_echo.is_ok(),
            long_echo: long_echo.is_ok(),
        }
    }

    /// As the service is probed, if that is something that can be asked from here at any time.
    fn kind(&self) -> ProbeKind {
        let usual =
            if matches!(self.service.protocol, Protocol::Tcp) { ProbeKind::Tcp } else { ProbeKind::Icmp };
        match self.service.health.as_ref().map(|health| &health.kind) {
            None | Some(ProbeKind::Command(..) | ProbeKind::Heartbeat { .. }) => usual,
            Some(kind) => kind.clone(),
        }
    }

    fn probed_port(&self) -> u16 {
        let probed = self.service.health.as_ref().and_then(|health| health.port);
        probed.or_else(|| self.service.port_of(self.address)).unwrap_or(self.service.ports.first())
    }

    async fn at_own(&self, kind: &ProbeKind, port: u16) -> Result<(), ProbeError> {
        let target = Target { address: (self.address, port).into(), service: self.service.key(), path: None };
        let mut result = Ok(());
        for _ in 0..ATTEMPTS {
            result = once(kind, target, self.patience()).await.map(drop);
            if result.is_ok() {
                break;
            }
        }
        result
    }

    async fn at_vip(&self, kind: &ProbeKind, paths: &Paths, padded: bool) -> Result<(), ProbeError> {
        if self.service.nat.is_some() {
            return Ok(());
        }
        let service = self.service.key();
        let key = Key { service, address: self.address };
        let address = (self.service.vip.network(), self.service.ports.first()).into();
        let mut result = Ok(());
        for _ in 0..ATTEMPTS {
            let path = paths.to(key, PATIENCE, padded).await?;
            let target = Target { address, service, path: Some(&path) };
            result = path.judge(once(kind, target, self.patience()).await).map(drop);
            if result.is_ok() {
                break;
            }
        }
        result
    }

    fn patience(&self) -> Duration {
        self.service.health.as_ref().map_or(PATIENCE, |health| health.timeout.max(PATIENCE))
    }

    /// What is wrong; `None`: nothing.
    fn judge(&self, answers: &Answers) -> Option<Finding> {
        match (&answers.own, &answers.vip) {
            (Err(error), _) if error.is_local() => Some(self.unasked(error)),
            (Err(error), _) if self.service.nat.is_some() => Some(self.own_fails(error, answers.own_echo)),
            (_, Err(error)) if error.is_local() => Some(self.unasked(error)),
            (Err(error), Ok(())) => Some(self.only_vip(error)),
            (Err(error), Err(_)) => Some(self.own_fails(error, answers.own_echo)),
            (Ok(()), Err(error)) => Some(self.vip_fails(error, answers.vip_echo)),
            (Ok(()), Ok(())) if answers.vip_echo && !answers.long_echo => Some(self.long_fails()),
            (Ok(()), Ok(())) => None,
        }
    }

    fn finding(&self, found: String) -> Finding {
        Finding::fail("probe", &format!("{} {}", self.service.name, self.address), found)
    }

    fn unasked(&self, error: &ProbeError) -> Finding {
        let finding = self.finding(error.to_string());
        Finding::warn("probe", &finding.about, finding.found)
            .so("whether it works is not known", "repair that, and ask again")
    }

    fn only_vip(&self, error: &ProbeError) -> Finding {
        let found = format!(
            "{error}, while it answers at the VIP: a wrong port, or its server listens on the VIP alone"
        );
        self.finding(found).so(
            "probes go to its own address, fail, and it gets no flows",
            format!(
                "is {} the port to probe? else let it listen on all addresses, or probe with to = \"vip\"",
                self.probed_port()
            ),
        )
    }

    fn own_fails(&self, error: &ProbeError, echo: bool) -> Finding {
        const WHY: &str = "its probes fail, so that it gets no flows";
        let (address, port) = (self.address, self.probed_port());
        if matches!(error, ProbeError::Refused { .. }) {
            let remedy = format!("start its server, or correct the port: {port} is probed");
            return self.finding(format!("{error}: a wrong port, or no server")).so(WHY, remedy);
        }
        if !is_silence(error) {
            return self
                .finding(error.to_string())
                .so(WHY, "look at the server's log, or correct [service.health]");
        }
        let (found, remedy) = match (echo, self.is_direct) {
            (true, _) => (
                format!(
                    "{address} answers pings, but port {port} says nothing, not even no: packets are dropped"
                ),
                format!("look for a firewall on {address} and on the way: nft list ruleset; iptables-save"),
            ),
            (false, true) => (
                format!(
                    "{address} is on this link, but answers neither pings nor at port {port}: packets are dropped"
                ),
                format!(
                    "look on {address} for a firewall (nft list ruleset) and for a blackhole on the way back (ip route)"
                ),
            ),
            (false, false) => (
                format!(
                    "nothing comes back from {address}, which is behind a router: a wrong gateway, or packets are dropped there"
                ),
                format!("ip route get {address}: is the gateway the right one, and does it know {address}?"),
            ),
        };
        self.finding(found).so(WHY, remedy)
    }

    fn vip_fails(&self, error: &ProbeError, echo: bool) -> Finding {
        const WHY: &str = "clients get no answer, while probes of its own address say that it is well";
        let (address, vip, port) = (self.address, self.service.vip.network(), self.service.ports.first());
        let is_refusal = matches!(error, ProbeError::OnPath { error, .. } if matches!(**error, ProbeError::Refused { .. }));
        if is_refusal {
            return self
                .finding(format!("it takes packets for {vip}, but nothing listens at {vip}:{port}"))
                .so(WHY, format!("let its server listen on {vip} or on all addresses, and on port {port}"));
        }
        if echo {
            return self
                .finding(format!(
                    "it answers pings to {vip}, but port {port} says nothing: packets are dropped"
                ))
                .so(WHY, format!("look for a firewall on {address}: nft list ruleset; iptables-save"));
        }
        let length = if vip.is_ipv4() { 32 } else { 128 };
        let add = format!("on {address}: ip address add {vip}/{length} dev lo");
        let forward = self.service.forward;
        match self.service.forward {
            // Nobody asks backends for the VIP behind a translation.
            Forward::L2 | Forward::Nat => self
                .finding(format!("it answers at its own address, but not for {vip}: the VIP is missing on its lo"))
                .so(WHY, add),
            Forward::Ipip | Forward::Gue | Forward::Geneve => self
                .finding(format!(
                    "it answers at its own address, but not for {vip} in {forward}: the VIP is missing on its lo, or nothing unwraps {forward}"
                ))
                .so(WHY, format!("{add}; and there must run: meshlb decap --interface NAME --vip {vip}")),
        }
    }

    fn long_fails(&self) -> Finding {
        self.finding("short packets arrive, but not those that are as long as the way should allow".to_owned()).so(
            "a link on the way has a smaller MTU and tells nobody: connections begin, and hang with their first data",
            format!("raise the MTU on all links to {}, or tell this host: ip route ... mtu", self.address),
        )
    }
}

/// Whether nobody has said anything.
const fn is_silence(error: &ProbeError) -> bool {
    matches!(
        error,
        ProbeError::ConnectTimedOut { .. } | ProbeError::NoAnswer { .. } | ProbeError::Unreachable { .. }
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preflight::Level;

    fn service(forward: &str) -> Service {
        let text = format!(
            "[agent]\ninterfaces = [\"eth0\"]\n[[service]]\nname = \"web\"\nvip = \"192.0.2.10\"\nport = 80\n\
             protocol = \"tcp\"\nforward = \"{forward}\"\nhealth = {{ kind = \"tcp\", port = 81 }}\n\
             [[service.backend]]\naddress = \"10.0.0.1\"\n"
        );
        crate::config::parse("test", &text).unwrap().services.remove(0)
    }

    fn refused() -> ProbeError {
        ProbeError::Refused { address: "10.0.0.1:81".parse().unwrap() }
    }

    fn silent() -> ProbeError {
        ProbeError::ConnectTimedOut { address: "10.0.0.1:81".parse().unwrap(), after: PATIENCE }
    }

    fn on_path(error: ProbeError) -> ProbeError {
        ProbeError::OnPath { error: Box::new(error), way: "by ipip".into() }
    }

    fn well() -> Answers {
        Answers { own: Ok(()), own_echo: true, vip: Ok(()), vip_echo: true, long_echo: true }
    }

    fn judged(forward: &str, is_direct: bool, answers: &Answers) -> Option<Finding> {
        let service = service(forward);
        Question { service: &service, address: "10.0.0.1".parse().unwrap(), is_direct }.judge(answers)
    }

    fn found(answers: &Answers) -> String {
        judged("ipip", true, answers).unwrap().found
    }

    #[test]
    fn who_answers_everything_is_well() {
        assert_eq!(judged("ipip", true, &well()), None);
        let mute = Answers { vip_echo: false, long_echo: false, ..well() };
        assert_eq!(judged("ipip", true, &mute), None, "who answers no pings need not answer long ones");
    }

    #[test]
    fn what_answers_and_what_does_not_tells_the_fault() {
        let own =
            |error, own_echo| Answers { own: Err(error), own_echo, vip: Err(on_path(silent())), ..well() };
        assert!(found(&own(refused(), true)).contains("a wrong port, or no server"));
        assert!(found(&own(silent(), true)).contains("answers pings, but port 81"));
        assert!(found(&own(silent(), false)).contains("neither pings nor at port 81"));
        let far = judged("ipip", false, &own(silent(), false)).unwrap();
        assert!(far.found.contains("a wrong gateway") && far.level == Level::Fail, "{far:?}");
        let vip = |error, vip_echo| Answers { vip: Err(on_path(error)), vip_echo, ..well() };
        assert!(found(&vip(refused(), true)).contains("nothing listens at 192.0.2.10:80"));
        assert!(found(&vip(silent(), true)).contains("pings to 192.0.2.10, but port 80"));
        assert!(found(&vip(silent(), false)).ends_with("or nothing unwraps ipip"));
        let plain = judged("l2", true, &vip(silent(), false)).unwrap();
        assert!(plain.found.ends_with("the VIP is missing on its lo"), "{plain:?}");
        assert_eq!(plain.remedy, "on 10.0.0.1: ip address add 192.0.2.10/32 dev lo");
        assert!(found(&Answers { long_echo: false, ..well() }).starts_with("short packets arrive"));
        assert!(
            found(&Answers { own: Err(silent()), ..well() })
                .contains("while it answers at the VIP: a wrong port")
        );
    }

    #[test]
    fn what_this_host_lacks_is_held_against_nobody() {
        let local = ProbeError::Local { reason: "no port".into() };
        let finding = judged("ipip", true, &Answers { vip: Err(local), ..well() }).unwrap();
        assert_eq!((finding.level, finding.found.as_str()), (Level::Warn, "could not probe: no port"));
    }
}
