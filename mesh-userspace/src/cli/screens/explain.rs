//! `meshlb explain`.

use crate::api::types::{BackendSlots, Explanation, Prospect, ProspectiveFlow, StepView};
use crate::cli::table::pairs;

/// The steps of each packet; a step that has several lines is named once.
pub(in crate::cli) fn explained(explanations: &[Explanation]) -> String {
    explanations.iter().map(one).collect::<Vec<_>>().join("\n\n")
}

fn one(explanation: &Explanation) -> String {
    let mut rows = vec![["interface".to_owned(), explanation.interface.clone()]];
    rows.extend(explanation.steps.iter().map(row));
    rows.extend(explanation.prospect.iter().flat_map(prospect));
    if !explanation.certain {
        let note = "one of those possible: chance, or the turn of a processor, has a say";
        rows.push(["note".to_owned(), note.to_owned()]);
    }
    let mut named = String::new();
    for [name, _] in &mut rows {
        if *name == named {
            name.clear();
        } else {
            named.clone_from(name);
        }
    }
    pairs(rows)
}

fn row(step: &StepView) -> [String; 2] {
    [step.step.clone(), step.finding.clone()]
}

fn prospect(prospect: &Prospect) -> Vec<[String; 2]> {
    let Prospect { assumed, new_flow, this_flow, slots_moved, slots } = prospect;
    let slot = |BackendSlots { backend, slots }: &BackendSlots| format!("{backend} ({slots} slots)");
    let table: Vec<_> = slots.iter().map(slot).collect();
    [
        format!("{}: computed by the planner, nothing was changed", assumed.join(", ")),
        format!("this packet: {}", change(this_flow)),
        format!("a new flow like it: {}", change(new_flow)),
        format!("{slots_moved} slots would move; new flows would go to {}", or_nobody(&table)),
    ]
    .map(|line| ["if".to_owned(), line])
    .into()
}

fn change(ProspectiveFlow { now, then }: &ProspectiveFlow) -> String {
    if now == then {
        return format!("{}, as now", or_nobody(then));
    }
    format!("{} instead of {}", or_nobody(then), or_nobody(now))
}

fn or_nobody(names: &[String]) -> String {
    if names.is_empty() { "nobody".to_owned() } else { names.join(" or ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_named_once_and_what_would_be_follows_them() {
        let step = |step: &str, finding: &str| StepView { step: step.into(), finding: finding.into() };
        let flow = |now: &str, then: &[&str]| ProspectiveFlow {
            now: vec![now.into()],
            then: then.iter().map(|it| (*it).to_owned()).collect(),
        };
        let explanation = Explanation {
            interface: "eth0".into(),
            steps: vec![step("packet", "one"), step("packet", "two"), step("outcome", "not_ip: ARP.")],
            prospect: Some(Prospect {
                assumed: vec!["10.0.1.1 is down".into()],
                this_flow: flow("10.0.1.1", &["10.0.1.2"]),
                new_flow: flow("10.0.1.1", &[]),
                slots_moved: 3,
                slots: vec![],
            }),
            ..Explanation::default()
        };
        let expected = "\
interface  eth0
packet     one
           two
outcome    not_ip: ARP.
if         10.0.1.1 is down: computed by the planner, nothing was changed
           this packet: 10.0.1.2 instead of 10.0.1.1
           a new flow like it: nobody instead of 10.0.1.1
           3 slots would move; new flows would go to nobody
note       one of those possible: chance, or the turn of a processor, has a say";
        assert_eq!(explained(&[explanation]), expected);
    }
}
