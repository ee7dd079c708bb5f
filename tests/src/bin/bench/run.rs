//! Group by group: the balancer is set up, every subject warmed, measured in rounds, and checked.

use anyhow::{Context, Result, ensure};
use mesh_common::abi::forward;
use mesh_common::encap::{LENGTH_IPV4, LENGTH_IPV6, overhead};
use nix::sched::{CpuSet, sched_getcpu, sched_setaffinity};
use nix::unistd::Pid;

use crate::cases::{Case, Family, GROUPS, Group, Packets, Slots, Way};
use crate::facts::Facts;
use crate::measure::{Effort, Subject};
use crate::report::{Figure, Floor, Report};
use crate::scene::Scene;
use crate::traffic;
use crate::wrapper::Wrapper;

/// Measures the groups whose name contains `only`.
pub(crate) fn all(effort: Effort, only: &str) -> Result<Report> {
    let mut wrapper = Wrapper::load()?;
    let mut report = Report::new()?;
    stay_on_this_processor()?;
    report.programs.clone_from(&wrapper.facts);
    for group in GROUPS.iter().filter(|group| group.name.contains(only)) {
        let (facts, figures) =
            measure(&mut wrapper, group, effort).with_context(|| format!("group `{}`", group.name))?;
        report.add(facts, figures);
    }
    Ok(report)
}

/// Another processor's caches are cold, and its clock may differ.
fn stay_on_this_processor() -> Result<()> {
    let mut here = CpuSet::new();
    here.set(sched_getcpu()?)?;
    Ok(sched_setaffinity(Pid::from_raw(0), &here)?)
}

fn measure(
    wrapper: &mut Wrapper,
    group: &'static Group,
    effort: Effort,
) -> Result<(Vec<Facts>, Vec<Figure>)> {
    let mut scene = Scene::new(group)?;
    let mut baselines = Baselines::new(wrapper)?;
    let mut subjects = Vec::new();
    for case in group.cases {
        subjects.push((case, Subject::new(scene.program()?, traffic::of(case)?, grown(case))));
    }
    baselines.each(|subject| subject.warm(wrapper, effort))?;
    for (case, subject) in &mut subjects {
        checked(&scene, case, || subject.warm(wrapper, effort))?;
    }
    for _ in 0..effort.rounds {
        baselines.each(|subject| subject.measure(wrapper))?;
        for (case, subject) in &mut subjects {
            checked(&scene, case, || subject.measure(wrapper))?;
        }
    }
    check_records(wrapper, &mut scene, &mut subjects)?;
    let figures = subjects.iter().map(|(case, subject)| baselines.figure(group, case, subject)).collect();
    Ok((scene.facts()?, figures))
}

/// Plays packets of a case and checks that each was counted where it should be.
fn checked(scene: &Scene, case: &Case, play: impl FnOnce() -> Result<u32>) -> Result<()> {
    let before = scene.count()?;
    let about = || format!("case `{}`", case.name);
    let packets = play().with_context(about)?;
    scene.count()?.check(&before, case, packets).with_context(about)
}

/// Whether the flows are really in the flow table, or none is: when every slot has another owner, those that are stay.
fn check_records(
    wrapper: &mut Wrapper,
    scene: &mut Scene,
    subjects: &mut [(&'static Case, Subject)],
) -> Result<()> {
    let recorded = match scene.slots() {
        Slots::Steady => return Ok(()),
        Slots::Migrating => false,
        Slots::Recording | Slots::Always => true,
    };
    scene.disinherit()?;
    for (case, subject) in subjects.iter_mut().filter(|(case, _)| case.packets == Packets::Established) {
        let before = scene.count()?;
        subject.play(wrapper, u32::try_from(case.flows)?)?;
        let kept = scene.count()?.to_owners(&before);
        // A bounded table may lose a few where many flows meet.
        let right = if recorded { kept >= case.flows / 100 * 99 } else { kept == 0 };
        ensure!(right, "case `{}`: {kept} of {} flows were recorded", case.name, case.flows);
    }
    Ok(())
}

fn grown(case: &Case) -> u32 {
    match case.way {
        Way::L2 | Way::Nat => 0,
        Way::Outer(Family::V4) | Way::Prefix | Way::Tell => LENGTH_IPV4.into(),
        Way::Outer(Family::V6) => LENGTH_IPV6.into(),
        Way::Gue => overhead(forward::GUE_IPV4, case.family == Family::V4).into(),
        Way::Geneve => overhead(forward::GENEVE_IPV4, case.family == Family::V4).into(),
    }
}

/// The wrapper alone and the floor, per family of the packets.
struct Baselines {
    null4: Subject,
    null6: Subject,
    floor4: Subject,
    floor6: Subject,
}

impl Baselines {
    fn new(wrapper: &mut Wrapper) -> Result<Self> {
        let mut subject = |program, case, grown| {
            Ok::<_, anyhow::Error>(Subject::new(wrapper.fd(program)?, traffic::of(case)?, grown))
        };
        Ok(Self {
            null4: subject("null", &Case::V4, 0)?,
            null6: subject("null", &Case::V6, 0)?,
            floor4: subject("floor4", &Case::V4, LENGTH_IPV4.into())?,
            floor6: subject("floor6", &Case::V6, LENGTH_IPV6.into())?,
        })
    }

    fn each(&mut self, mut turn: impl FnMut(&mut Subject) -> Result<u32>) -> Result<()> {
        [&mut self.null4, &mut self.floor4, &mut self.null6, &mut self.floor6]
            .into_iter()
            .try_for_each(|subject| turn(subject).map(drop))
    }

    fn figure(&self, group: &'static Group, case: &'static Case, subject: &Subject) -> Figure {
        let null = match case.family {
            Family::V4 => &self.null4,
            Family::V6 => &self.null6,
        };
        let floor = Floor { ipv4: self.floor4.beyond(&self.null4), ipv6: self.floor6.beyond(&self.null6) };
        Figure::new(group.name, case, subject.beyond(null), floor)
    }
}
