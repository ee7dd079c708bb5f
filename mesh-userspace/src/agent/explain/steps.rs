//! An explanation in sentences, in the order in which the programs went.

use crate::api::types::{
    ConnectionIdView, ExplainedFlow, ExplainedGuard, ExplainedRecord, ExplainedService, ExplainedSlot,
    ExplainedTranslation, Explanation, PickView, RecordView, StepView,
};
use mesh_common::{
    notes::{Notes, step},
    outcome::{Outcome, Verdict},
};
use std::path::Path;

/// What each step of the programs found.
pub(super) fn steps(
    explanation: &Explanation,
    notes: &Notes,
    outcome: Outcome,
    next: Option<&Path>,
) -> Vec<StepView> {
    let Explanation { flow, service, connection_id, slot, record, translation, pick, backend, .. } =
        explanation;
    let mut steps = Vec::new();
    let mut say = |step: &str, finding: String| steps.push(StepView { step: step.to_owned(), finding });
    explanation.packet.headers.iter().for_each(|line| say("packet", line.clone()));
    flow.iter().for_each(|flow| say("flow", flow_text(flow)));
    if notes.has(step::FOLLOWED) {
        say("fragment", "a later fragment, whose first was seen".to_owned());
    }
    if notes.has(step::READ) {
        say(
            "service",
            service
                .as_ref()
                .map_or_else(|| "none has this address, port and protocol".to_owned(), service_text),
        );
    }
    for other in &explanation.other_services {
        say("service", format!("not {} ({}): {}", other.service, other.key, other.reason));
    }
    explanation.guard.iter().for_each(|guard| say("guard", guard_text(guard)));
    connection_id.iter().for_each(|id| say("quic", connection_id_text(id)));
    slot.iter().for_each(|slot| say("slot", slot_text(slot)));
    record.iter().for_each(|record| say("record", record_text(record)));
    pick.iter().for_each(|pick| say("pick", pick_text(pick)));
    translation.iter().for_each(|translation| say("nat", translation_text(translation)));
    if let Some(backend) = backend {
        say("backend", format!("{}: {}", backend.address, backend.reason));
        say("backend", backend.eligible.clone());
        let hop = backend.next_hop.as_deref().unwrap_or("not known");
        say("next hop", format!("{} by {hop}, {} bytes of packet fit", backend.forward, backend.room));
    }
    say("outcome", format!("{}: {}", explanation.outcome, explanation.meaning));
    if let (Verdict::Pass, Some(next)) = (outcome.verdict(), next) {
        say(
            "outcome",
            format!("the program pinned at {} decides what becomes of it; it was not run", next.display()),
        );
    }
    if is_limited(outcome) {
        say("outcome", "unless the processor has sent all the answers that it may in this second".to_owned());
    }
    if let Some(output) = &explanation.output {
        output.headers.iter().for_each(|line| say("sent", line.clone()));
    }
    steps
}

/// Whether the balancer answers the packet itself, which each processor does so often in a second only.
const fn is_limited(outcome: Outcome) -> bool {
    matches!(outcome, Outcome::EchoAnswered | Outcome::Rejected | Outcome::TooBigTold)
}

fn flow_text(flow: &ExplainedFlow) -> String {
    let ExplainedFlow { client, destination, protocol, segment, hash } = flow;
    let hash = hash.as_ref().map_or_else(String::new, |hash| format!(", hash {hash}"));
    let what = match segment.as_str() {
        "opening" => "a TCP connection begins",
        "closing" => "a TCP connection ends",
        "established" => "a TCP connection goes on",
        "related" => "about a flow: an ICMP error, or a later fragment",
        _ => "a datagram",
    };
    format!("{client} > {destination} {protocol}: {what}{hash}")
}

fn service_text(service: &ExplainedService) -> String {
    let ExplainedService { name, key, scheduler, matched } = service;
    if name.is_empty() {
        return "one that is about to be removed".to_owned();
    }
    let how = if matched == "wide" {
        "no service has this very address, port and protocol; this is the most specific of those wider"
    } else {
        "it has this very address, port and protocol"
    };
    format!("{name} ({key}), scheduler {scheduler}: {how}")
}

fn guard_text(guard: &ExplainedGuard) -> String {
    let ExplainedGuard { admittance, prefix, ordered } = guard;
    let verdict = if admittance == "deny" { "kept out" } else { "let in" };
    let whose = if *ordered { "by the operator's order" } else { "by the configuration" };
    match prefix {
        Some(prefix) => format!("the client is in {prefix}, which is {verdict} {whose}"),
        None => format!("the client is in no prefix: such are {verdict} {whose}"),
    }
}

fn connection_id_text(id: &ConnectionIdView) -> String {
    match id.routed.as_str() {
        "connection_id" => {
            format!("the connection id, of configuration {}, names a living backend", id.rotation)
        }
        "initial" => {
            "the client has chosen the connection id: the packet goes by the hash of its flow".to_owned()
        }
        why => format!(
            "the connection id does not lead to a backend ({why}): the packet goes by the hash of its flow"
        ),
    }
}

fn slot_text(slot: &ExplainedSlot) -> String {
    let ExplainedSlot { index, of, phase, new_flows, unrecorded_flows, consults, records } = slot;
    let name = |owner: &Option<String>| owner.clone().unwrap_or_else(|| "nobody".to_owned());
    let (new, old) = (name(new_flows), name(unrecorded_flows));
    let owners = if new == old {
        format!("all flows go to {new}")
    } else {
        format!("new flows go to {new}, others to {old} unless they are recorded")
    };
    let table = match (consults, records) {
        (false, _) => "the flow table is not asked",
        (true, false) => "recorded flows stay where they are",
        (true, true) => "recorded flows stay where they are, others become recorded",
    };
    format!("{index} of {of}, {phase}: {owners}; {table}")
}

fn record_text(record: &ExplainedRecord) -> String {
    let ExplainedRecord { found, written } = record;
    let text = |record: &RecordView| {
        let RecordView { backend, alive, state, idle_seconds } = record;
        let dead = if *alive { "" } else { ", which is dead" };
        format!("at {backend}{dead}, {state}, idle for {idle_seconds:.0} s")
    };
    let found = found
        .as_ref()
        .map_or_else(|| "the flow is not recorded".to_owned(), |found| format!("found {}", text(found)));
    match written {
        Some(written) => {
            format!("{found}; the packet would write: at {}, {}", written.backend, written.state)
        }
        None => format!("{found}; the packet would write none"),
    }
}

fn translation_text(translation: &ExplainedTranslation) -> String {
    let ExplainedTranslation { connection, source, destination } = translation;
    let what = match connection.as_str() {
        "new" => "a connection begins",
        "known" => "its connection is known",
        _ => "a backend answers its client",
    };
    format!("{what}: the packet becomes one from {source} to {destination}")
}

fn pick_text(pick: &PickView) -> String {
    let PickView { picked, compared, possible } = pick;
    let picked = picked.as_deref().unwrap_or("nobody");
    let among: Vec<_> = possible.iter().map(|one| format!("{} ({} slots)", one.backend, one.slots)).collect();
    let compared =
        if compared.is_empty() { String::new() } else { format!(", of {}", compared.join(" and ")) };
    format!("{picked} this time{compared}; the next packet may get another of {}", among.join(", "))
}
