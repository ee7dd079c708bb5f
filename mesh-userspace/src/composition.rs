//! What each backend takes of a service's new flows: its group's part of the split, its tier's part of that, its weight's
//! part of that. Pure, in whole numbers, so that all balancers of a cluster come to the same.
//!
//! Tiers take over as priority levels of Envoy do, whose overprovisioning factor is 1 / [`Rules::spill_over_below`]
//! (<https://www.envoyproxy.io/docs/envoy/latest/intro/arch_overview/upstream/load_balancing/priority>): with *h* the
//! healthy part of a tier's weight, the tier is up to min(1, *h* / threshold); each tier takes what those before it
//! leave, up to as much as it is up to; where all together are not up to the whole, each takes of it in proportion.
//!
//! Invariants: where anybody can take flows whose group has a share, all flows are taken; groups that can take flows
//! have their parts of the split whatever their weights and tiers are.

use crate::config::Group;
use std::collections::BTreeMap;

/// All of a service's new flows.
const WHOLE: u64 = 1 << 31;

/// A backend, as far as it matters for who takes how much.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member<'a> {
    /// Its group.
    pub group: &'a Group,
    /// Its tier.
    pub priority: u16,
    /// What it should be able to take, relative to the others.
    pub configured: u16,
    /// How much of that it is well enough for.
    pub healthy: u16,
    /// Its weight among those of its group and tier now; 0 if it takes no new flows. In a panic, those that are not well
    /// have one.
    pub weight: u16,
}

/// How a service is composed.
#[derive(Clone, Copy, Debug)]
pub struct Rules<'a> {
    /// The shares of groups; empty: all are one group.
    pub split: &'a BTreeMap<Group, u16>,
    /// Where less of a tier is healthy, in per cent, the next one takes over in part; 0: where none is.
    pub spill_over_below: u8,
}

/// What becomes of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Portion {
    /// It takes so much of the new flows, relative to the others; none if it takes no new flows anyway.
    Takes(u32),
    /// It could take flows, which higher tiers take.
    StandsBy,
    /// It could take flows, of which its group gets none.
    Unshared,
}

/// The part of each backend, in the order of the backends.
#[must_use]
pub fn portions(members: &[Member<'_>], rules: Rules<'_>) -> Vec<Portion> {
    let mut groups = Groups::new();
    for member in members {
        groups.entry(rules.group_of(member)).or_default().entry(member.priority).or_default().add(member);
    }
    for tiers in groups.values_mut() {
        share_out(tiers, rules.spill_over_below);
    }
    split(&mut groups, rules);
    let taking = groups.values().flat_map(BTreeMap::values).filter(|tier| tier.takes > 0).count();
    let portion = |member: &Member<'_>| {
        let group = rules.group_of(member);
        match groups.get(&group).and_then(|tiers| tiers.get(&member.priority)) {
            _ if member.weight == 0 => Portion::Takes(0),
            _ if rules.share(group) == 0 => Portion::Unshared,
            Some(tier) if tier.takes > 0 => Portion::Takes(tier.portion(member, taking == 1)),
            Some(_) | None => Portion::StandsBy,
        }
    };
    members.iter().map(portion).collect()
}

/// The tiers of each group by priority. Without a split all backends are of one, which has no name.
type Groups<'a> = BTreeMap<Option<&'a Group>, Tiers>;

type Tiers = BTreeMap<u16, Tier>;

/// The backends of one group and one priority together.
#[derive(Clone, Copy, Debug, Default)]
struct Tier {
    configured: u64,
    healthy: u64,
    weight: u64,
    /// What it takes of its group's flows, and then of all, in parts of [`WHOLE`].
    takes: u64,
}

impl Rules<'_> {
    fn group_of<'m>(&self, member: &Member<'m>) -> Option<&'m Group> {
        (!self.split.is_empty()).then_some(member.group)
    }

    fn share(&self, group: Option<&Group>) -> u64 {
        group.map_or(1, |group| self.split.get(group).copied().unwrap_or(0).into())
    }
}

impl Tier {
    fn add(&mut self, member: &Member<'_>) {
        self.configured += u64::from(member.configured);
        self.healthy += u64::from(member.healthy);
        self.weight += u64::from(member.weight);
    }

    /// How much of its group's flows it is up to.
    fn is_up_to(&self, percent: u8) -> u64 {
        if self.weight == 0 || self.healthy == 0 {
            return 0;
        }
        let enough = u128::from(self.configured) * u128::from(percent);
        let part = u128::from(WHOLE) * u128::from(self.healthy) * 100 / enough.max(1);
        u64::try_from(part).unwrap_or(WHOLE).clamp(1, WHOLE)
    }

    /// A member's part of what it takes; the weight itself, where nobody else takes any.
    fn portion(&self, member: &Member<'_>, is_only: bool) -> u32 {
        let weight = u64::from(member.weight);
        let portion = if is_only { weight } else { self.takes * weight / self.weight };
        u32::try_from(portion).unwrap_or(u32::MAX).max(1)
    }
}

/// Gives each tier of a group its part: all together take the whole, or nothing.
fn share_out(tiers: &mut Tiers, spill_over_below: u8) {
    let mut left = WHOLE;
    for tier in tiers.values_mut() {
        tier.takes = tier.is_up_to(spill_over_below).min(left);
        left -= tier.takes;
    }
    let taken = WHOLE - left;
    if taken == 0 {
        // Nobody is well: in a panic, the highest that can be used.
        tiers.values_mut().filter(|tier| tier.weight > 0).take(1).for_each(|tier| tier.takes = WHOLE);
        return;
    }
    for tier in tiers.values_mut() {
        tier.takes = tier.takes * WHOLE / taken;
    }
}

/// Gives each group its part; that of those that can take nothing goes to the others.
fn split(groups: &mut Groups<'_>, rules: Rules<'_>) {
    let can = |tiers: &Tiers| tiers.values().any(|tier| tier.takes > 0);
    let shares: u64 =
        groups.iter().filter(|(_, tiers)| can(tiers)).map(|(group, _)| rules.share(*group)).sum();
    for (group, tiers) in groups {
        let part = WHOLE * rules.share(*group) / shares.max(1);
        for tier in tiers.values_mut().filter(|tier| tier.takes > 0) {
            // However small, it is something, unless the group has no share.
            tier.takes = (tier.takes * part / WHOLE).max(part.min(1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::IpAddr;

    fn groups(names: &[&str]) -> Vec<Group> {
        names.iter().map(|name| Group::named(name)).collect()
    }

    fn shares(split: &[(&str, u16)]) -> BTreeMap<Group, u16> {
        split.iter().map(|(name, share)| (Group::named(name), *share)).collect()
    }

    fn well(group: &Group, priority: u16, weight: u16) -> Member<'_> {
        Member { group, priority, configured: weight, healthy: weight, weight }
    }

    fn ill(group: &Group, priority: u16, weight: u16) -> Member<'_> {
        Member { healthy: 0, weight: 0, ..well(group, priority, weight) }
    }

    /// What each takes, in per cent of all.
    fn percents(portions: &[Portion]) -> Vec<f64> {
        let takes = |portion: &Portion| match portion {
            Portion::Takes(portion) => f64::from(*portion),
            Portion::StandsBy | Portion::Unshared => 0.0,
        };
        let all: f64 = portions.iter().map(takes).sum();
        portions.iter().map(|portion| takes(portion) * 100.0 / all).collect()
    }

    #[track_caller]
    fn assert_percents(members: &[Member<'_>], rules: Rules<'_>, expected: &[f64]) {
        let percents = percents(&portions(members, rules));
        let is_near = percents.iter().zip(expected).all(|(is, should)| (is - should).abs() < 0.01);
        assert!(is_near && percents.len() == expected.len(), "{percents:?}, expected {expected:?}");
    }

    #[test]
    fn a_plain_service_goes_by_its_weights() {
        let group = Group::default();
        let rules = Rules { split: &BTreeMap::new(), spill_over_below: 0 };
        let members = [well(&group, 0, 7), ill(&group, 0, 9), well(&group, 0, 100)];
        assert_eq!(portions(&members, rules), [7, 0, 100].map(Portion::Takes));
        assert_eq!(portions(&[], rules), []);
    }

    #[test]
    fn groups_have_their_shares_whatever_their_weights_are() {
        let names = groups(&["stable", "canary"]);
        let members = [well(&names[0], 0, 1), well(&names[0], 0, 3), well(&names[1], 0, 1000)];
        let (split, none) =
            (shares(&[("stable", 95), ("canary", 5)]), shares(&[("stable", 95), ("canary", 0)]));
        let rules = Rules { split: &split, spill_over_below: 0 };
        assert_percents(&members, rules, &[23.75, 71.25, 5.0]);
        assert_percents(&members, Rules { split: &none, ..rules }, &[25.0, 75.0, 0.0]);
        assert_eq!(portions(&members, Rules { split: &none, ..rules })[2], Portion::Unshared);
        assert_percents(&members, Rules { split: &BTreeMap::new(), ..rules }, &[0.0996, 0.2988, 99.6016]);
    }

    #[test]
    fn a_group_that_can_take_nothing_gives_its_part_to_the_others() {
        let names = groups(&["one", "two", "three"]);
        let split = shares(&[("one", 50), ("two", 30), ("three", 20)]);
        let rules = Rules { split: &split, spill_over_below: 0 };
        let members = [ill(&names[0], 0, 100), well(&names[1], 0, 100), well(&names[2], 0, 100)];
        assert_percents(&members, rules, &[0.0, 60.0, 40.0]);
        // Not to those that are to have none.
        let split = shares(&[("one", 50), ("two", 0), ("three", 0)]);
        let portions = portions(&members, Rules { split: &split, ..rules });
        assert_eq!(portions, [Portion::Takes(0), Portion::Unshared, Portion::Unshared]);
    }

    #[test]
    fn a_lower_tier_stands_by_until_the_upper_has_nobody() {
        let group = Group::default();
        let rules = Rules { split: &BTreeMap::new(), spill_over_below: 0 };
        let weak = [ill(&group, 0, 99), well(&group, 0, 1), well(&group, 1, 100)];
        assert_eq!(portions(&weak, rules), [Portion::Takes(0), Portion::Takes(1), Portion::StandsBy]);
        let gone = [ill(&group, 0, 99), ill(&group, 0, 1), well(&group, 1, 100), well(&group, 2, 1)];
        let expected = [Portion::Takes(0), Portion::Takes(0), Portion::Takes(100), Portion::StandsBy];
        assert_eq!(portions(&gone, rules), expected);
    }

    #[test]
    fn what_a_tier_is_not_up_to_goes_to_the_next_ones() {
        let group = Group::default();
        let rules = Rules { split: &BTreeMap::new(), spill_over_below: 70 };
        let tiers = |well_above: u16, well_below: u16| {
            let member = |priority, is_well| {
                if is_well { well(&group, priority, 10) } else { ill(&group, priority, 10) }
            };
            let above = (0..10).map(|number| member(0, number < well_above));
            above.chain((0..10).map(|number| member(1, number < well_below))).collect::<Vec<_>>()
        };
        let above = |members: &[Member<'_>]| percents(&portions(members, rules))[..10].iter().sum::<f64>();
        let expected = [(10, 10, 100.0), (7, 10, 100.0), (6, 10, 85.714), (1, 10, 14.286), (0, 10, 0.0)];
        // Neither is up to what is left: in proportion.
        for (well_above, well_below, percent) in expected.into_iter().chain([(3, 1, 75.0), (2, 2, 50.0)]) {
            let got = above(&tiers(well_above, well_below));
            assert!((got - percent).abs() < 0.01, "{well_above} and {well_below} of 10: {got}");
        }
    }

    #[test]
    fn each_group_has_tiers_of_its_own() {
        let names = groups(&["stable", "canary"]);
        let split = shares(&[("stable", 90), ("canary", 10)]);
        let rules = Rules { split: &split, spill_over_below: 100 };
        let members =
            [well(&names[0], 0, 50), ill(&names[0], 0, 50), well(&names[0], 1, 100), well(&names[1], 0, 100)];
        assert_percents(&members, rules, &[45.0, 0.0, 45.0, 10.0]);
    }

    /// Members of three groups and three tiers, in any state.
    fn anybody() -> impl Strategy<Value = Vec<(usize, u16, u16, u16)>> {
        prop::collection::vec((0usize..3, 0u16..3, 1u16..=1000, 0u16..=100), 1..60)
    }

    fn members<'a>(names: &'a [Group], drawn: &[(usize, u16, u16, u16)]) -> Vec<Member<'a>> {
        let member = |(group, priority, weight, percent): &(usize, u16, u16, u16)| {
            let healthy = u16::try_from(u32::from(*weight) * u32::from(*percent) / 100).unwrap();
            Member {
                group: &names[*group],
                priority: *priority,
                configured: *weight,
                healthy,
                weight: healthy,
            }
        };
        drawn.iter().map(member).collect()
    }

    /// The sum of what those take of whom something is true.
    fn sum_of(members: &[Member<'_>], percents: &[f64], of: impl Fn(&Member<'_>) -> bool) -> f64 {
        members.iter().zip(percents).filter(|(member, _)| of(member)).map(|(_, percent)| percent).sum()
    }

    proptest! {
        #[test]
        fn groups_that_can_have_exactly_their_parts(
            drawn in anybody(), split in prop::array::uniform3(0u16..=1000), spill_over_below in 0u8..=100,
        ) {
            let names = groups(&["a", "b", "c"]);
            let members = members(&names, &drawn);
            let shares: BTreeMap<_, _> = names.iter().cloned().zip(split).collect();
            prop_assume!(split.iter().any(|share| *share > 0));
            let portions = portions(&members, Rules { split: &shares, spill_over_below });
            let can = |group: &Group| members.iter().any(|member| member.group == group && member.weight > 0);
            let all: f64 = shares.iter().filter(|(group, _)| can(group)).map(|(_, share)| f64::from(*share)).sum();
            prop_assume!(all > 0.0);
            let percents = percents(&portions);
            for (group, share) in &shares {
                let is = sum_of(&members, &percents, |member| member.group == group);
                let should = if can(group) { f64::from(*share) * 100.0 / all } else { 0.0 };
                prop_assert!((is - should).abs() < 0.01, "{group}: {is}, should be {should}");
            }
        }

        #[test]
        fn within_a_tier_of_a_group_flows_go_by_weight(drawn in anybody(), spill_over_below in 0u8..=100) {
            let names = groups(&["a", "b", "c"]);
            let members = members(&names, &drawn);
            let split = shares(&[("a", 5), ("b", 10), ("c", 85)]);
            let portions = portions(&members, Rules { split: &split, spill_over_below });
            for (one, first) in members.iter().zip(&portions) {
                for (other, second) in members.iter().zip(&portions) {
                    let (Portion::Takes(first), Portion::Takes(second)) = (first, second) else { continue };
                    if one.group == other.group && one.priority == other.priority && *first > 1000 && *second > 1000 {
                        let ratio = f64::from(*first) * f64::from(other.weight) / (f64::from(*second) * f64::from(one.weight));
                        prop_assert!((ratio - 1.0).abs() < 0.02, "{one:?} {first}, {other:?} {second}");
                    }
                }
            }
        }

        /// The sicker a tier, the less it takes, and the more do those below it.
        #[test]
        fn who_gets_worse_takes_no_more(drawn in anybody(), spill_over_below in 0u8..=100, worse in 0u16..=100) {
            let names = groups(&["a"]);
            let one = |drawn: &(usize, u16, u16, u16)| (0, drawn.1, drawn.2, drawn.3);
            let before: Vec<_> = drawn.iter().map(one).collect();
            let after: Vec<_> = before.iter().map(|(group, tier, weight, percent)| {
                (*group, *tier, *weight, if *tier == 0 { percent * worse / 100 } else { *percent })
            }).collect();
            let rules = Rules { split: &BTreeMap::new(), spill_over_below };
            let first = |drawn: &[_]| {
                let members = members(&names, drawn);
                let portions = portions(&members, rules);
                let anybody = portions.iter().any(|portion| matches!(portion, Portion::Takes(1..)));
                anybody.then(|| sum_of(&members, &percents(&portions), |member| member.priority == 0))
            };
            if let (Some(before), Some(after)) = (first(&before), first(&after)) {
                prop_assert!(after <= before + 0.01, "{before} to {after}");
            }
        }
    }

    /// Not through `desired`: of the portions alone.
    #[test]
    fn a_larger_share_moves_slots_only_towards_its_group() {
        use crate::maglev::{Share, fill};
        let names = groups(&["stable", "canary"]);
        let members: Vec<_> = (0..20).map(|number| well(&names[usize::from(number >= 15)], 0, 100)).collect();
        let table = |canary: u16| {
            let split = shares(&[("stable", 100 - canary), ("canary", canary)]);
            let portions = portions(&members, Rules { split: &split, spill_over_below: 0 });
            let share = |(number, portion): (u8, Portion)| match portion {
                Portion::Takes(weight) => Some(Share { address: [10, 0, 0, number].into(), weight }),
                Portion::StandsBy | Portion::Unshared => None,
            };
            let shares: Vec<_> = (0..).zip(portions).filter_map(share).collect();
            let is_canary =
                |index: Option<usize>| shares[index.unwrap()].address >= IpAddr::from([10, 0, 0, 15]);
            fill(16_381, &shares).into_iter().map(is_canary).collect::<Vec<_>>()
        };
        let mut before = table(5);
        for canary in [10, 20, 50, 90] {
            let after = table(canary);
            let moved = |from: bool| {
                before.iter().zip(&after).filter(|(old, new)| **old == from && **new != from).count()
            };
            let part = after.iter().filter(|is_canary| **is_canary).count() * 100;
            let ideal = usize::from(canary) * after.len();
            assert!(part.abs_diff(ideal) * 50 <= ideal, "{canary} %: {part} of {ideal}");
            // A few go back, so that each backend has its exact part.
            assert!(moved(true) * 100 <= after.len(), "{} slots left the canary at {canary} %", moved(true));
            assert!(moved(false) > moved(true));
            before = after;
        }
    }
}
