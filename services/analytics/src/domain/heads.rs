//! Which tests of a technique count, and how a change of some tests changes the counts.

use std::collections::{BTreeMap, HashMap, HashSet};

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{
    pipeline::State,
    test::{Test, Verdict},
};

/// A retest chain, as far as it is of one technique.
pub(crate) type Chain = (Uuid, Uuid);

/// What counts need of a test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Counted {
    pub(crate) id: Uuid,
    /// Where it is among all; nowhere when it is deleted.
    pub(crate) state: Option<State>,
    pub(crate) technique_id: Option<Uuid>,
    pub(crate) chain_id: Option<Uuid>,
    pub(crate) verdict: Option<Verdict>,
    pub(crate) validated_at: Option<DateTime<Utc>>,
    /// In lower case.
    pub(crate) platform: Option<String>,
    /// It is said to be the newest of its chain that has a verdict.
    pub(crate) head: bool,
}

impl Counted {
    pub(crate) fn of(test: &Test) -> Counted {
        Counted {
            id: test.id,
            state: (!test.deleted).then_some(test.state),
            technique_id: test.technique_id,
            chain_id: test.chain_id,
            verdict: test.verdict(),
            validated_at: test.validated_at,
            platform: test.platform.as_deref().and_then(platform_name),
            head: false,
        }
    }

    /// As a head both count the same.
    fn counts_as(&self, other: &Counted) -> bool {
        (self.chain(), self.verdict, self.validated_at, &self.platform)
            == (other.chain(), other.verdict, other.validated_at, &other.platform)
    }

    /// The chain in which it counts, if it does.
    pub(crate) fn chain(&self) -> Option<Chain> {
        self.verdict.and(self.technique_id.zip(self.chain_id))
    }
}

/// By how much the counts of a technique change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Delta {
    pub(crate) n: i64,
    pub(crate) validated: i64,
    /// Heads, by [`Verdict::number`].
    pub(crate) heads: [i64; 3],
    /// Heads by platform.
    pub(crate) platforms: BTreeMap<String, i64>,
    /// The newest validation of heads that came.
    pub(crate) newest: Option<DateTime<Utc>>,
    /// A head went: the newest validation may have been its.
    pub(crate) lost: bool,
}

/// What a change of tests does to all that is counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    pub(crate) techniques: BTreeMap<Uuid, Delta>,
    /// Tests by state.
    pub(crate) states: BTreeMap<State, i64>,
    /// Of the changed tests those that are heads now.
    pub(crate) heads: HashSet<Uuid>,
    /// Tests that were not changed, but whether they are heads was.
    pub(crate) turned: BTreeMap<Uuid, bool>,
}

/// A platform as it is counted, if it is one.
pub(crate) fn platform_name(text: &str) -> Option<String> {
    let name = text.trim().to_lowercase();
    (!name.is_empty()).then_some(name)
}

/// The changes that follow when tests `before` become `after`. `others` are all tests with a verdict in the chains of
/// both, as they were before; which of them are among the changed ones is seen by their ids.
pub(crate) fn changes(before: &[Counted], after: &[Counted], others: &[Counted]) -> Changes {
    let mut changes = Changes::default();
    for (tests, sign) in [(before, -1), (after, 1)] {
        for test in tests {
            if let Some(state) = test.state {
                *changes.states.entry(state).or_default() += sign;
                if let Some(technique) = test.technique_id {
                    let delta = changes.techniques.entry(technique).or_default();
                    delta.n += sign;
                    delta.validated += sign * i64::from(test.verdict.is_some());
                }
            }
        }
    }
    let touched: HashSet<Uuid> = before.iter().chain(after).map(|test| test.id).collect();
    let kept: Vec<&Counted> = others.iter().filter(|other| !touched.contains(&other.id)).collect();
    // What is said to be a head was counted, right or wrong.
    let were = before.iter().chain(kept.iter().copied()).filter(|test| test.head);
    let were: BTreeMap<Uuid, &Counted> = were.map(|test| (test.id, test)).collect();
    let are = heads(kept.iter().copied().chain(after));
    for (id, head) in &were {
        if are.get(id).is_none_or(|now| !now.counts_as(head)) {
            changes.head(head, -1);
        }
    }
    for (id, head) in &are {
        if were.get(id).is_none_or(|was| !was.counts_as(head)) {
            changes.head(head, 1);
        }
    }
    for test in kept {
        let is = are.contains_key(&test.id);
        if is != test.head {
            changes.turned.insert(test.id, is);
        }
    }
    changes.heads = are.into_keys().filter(|id| touched.contains(id)).collect();
    changes.states.retain(|_, n| *n != 0);
    for delta in changes.techniques.values_mut() {
        delta.platforms.retain(|_, n| *n != 0);
    }
    changes.techniques.retain(|_, delta| !delta.is_nothing());
    changes
}

/// Of each chain the newest test with a verdict; of two at the same moment the younger one. By id.
fn heads<'a>(tests: impl Iterator<Item = &'a Counted>) -> BTreeMap<Uuid, &'a Counted> {
    let mut heads: HashMap<Chain, &Counted> = HashMap::new();
    for test in tests {
        let Some(chain) = test.chain() else { continue };
        let place = |test: &Counted| (test.validated_at, test.id);
        let head = heads.entry(chain).or_insert(test);
        if place(test) > place(head) {
            *head = test;
        }
    }
    heads.into_values().map(|head| (head.id, head)).collect()
}

impl Changes {
    /// A head came or went.
    fn head(&mut self, test: &Counted, sign: i64) {
        let (Some((technique, _)), Some(verdict)) = (test.chain(), test.verdict) else { return };
        let delta = self.techniques.entry(technique).or_default();
        delta.heads[verdict as usize] += sign;
        if let Some(platform) = &test.platform {
            *delta.platforms.entry(platform.clone()).or_default() += sign;
        }
        if sign > 0 {
            delta.newest = delta.newest.max(test.validated_at);
        } else {
            delta.lost = true;
        }
    }
}

impl Delta {
    /// A head that went and came again may have another moment, so that counts alone do not tell.
    pub(crate) fn is_nothing(&self) -> bool {
        self.n == 0
            && self.validated == 0
            && self.heads == [0; 3]
            && self.platforms.is_empty()
            && self.newest.is_none()
            && !self.lost
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeZone;
    use proptest::prelude::*;

    use super::*;

    /// A world of tests, counted from scratch.
    fn counted(tests: &[Counted]) -> (BTreeMap<Uuid, Delta>, BTreeMap<State, i64>) {
        let mut techniques: BTreeMap<Uuid, Delta> = BTreeMap::new();
        let mut states: BTreeMap<State, i64> = BTreeMap::new();
        for test in tests {
            let Some(state) = test.state else { continue };
            *states.entry(state).or_default() += 1;
            let delta = techniques.entry(test.technique_id.unwrap()).or_default();
            delta.n += 1;
            delta.validated += i64::from(test.verdict.is_some());
            let newer = |other: &&Counted| {
                other.chain() == test.chain() && (other.validated_at, other.id) > (test.validated_at, test.id)
            };
            if let Some(verdict) = test.verdict
                && tests.iter().find(newer).is_none()
            {
                delta.heads[verdict as usize] += 1;
                *delta.platforms.entry(test.platform.clone().unwrap()).or_default() += 1;
            }
        }
        (techniques, states)
    }

    prop_compose! {
        fn any_test()(
            technique in 0u128..2, chain in 0u128..3, state in 0usize..8, verdict in 0i64..3, at in 0i64..4,
            platform in prop::sample::select(vec!["linux", "windows"]),
        ) -> Counted {
            // Half of them validated; one in eight deleted.
            let state = [State::Draft, State::InReview, State::Rejected].get(state).copied().or((state < 7).then_some(State::Validated));
            Counted {
                id: Uuid::nil(),
                state,
                technique_id: Some(Uuid::from_u128(100 + technique)),
                chain_id: Some(Uuid::from_u128(200 + chain)),
                verdict: (state == Some(State::Validated)).then(|| Verdict::of_number(verdict)).flatten(),
                validated_at: Some(Utc.timestamp_opt(at, 0).unwrap()),
                platform: Some(platform.to_owned()),
                head: false,
            }
        }
    }

    proptest! {
        #[test]
        fn changes_sum_up_to_what_is_counted(steps in prop::collection::vec(
            prop::collection::btree_map(0u128..12, prop::option::weighted(0.9, any_test()), 1..5), 1..20,
        )) {
            let mut world: BTreeMap<Uuid, Counted> = BTreeMap::new();
            let mut techniques: BTreeMap<Uuid, Delta> = BTreeMap::new();
            let mut states: BTreeMap<State, i64> = BTreeMap::new();
            for step in steps {
                let before: Vec<Counted> =
                    step.keys().filter_map(|id| world.get(&Uuid::from_u128(*id)).cloned()).collect();
                let after: Vec<Counted> = step
                    .iter()
                    .filter_map(|(id, test)| Some(Counted { id: Uuid::from_u128(*id), ..test.clone()? }))
                    .collect();
                let chains: HashSet<Uuid> =
                    before.iter().chain(&after).filter_map(|t| t.chain().map(|(_, chain)| chain)).collect();
                let others: Vec<Counted> = world
                    .values()
                    .filter(|t| t.chain().is_some_and(|(_, chain)| chains.contains(&chain)))
                    .cloned()
                    .collect();
                let changes = changes(&before, &after, &others);
                for id in step.keys() {
                    world.remove(&Uuid::from_u128(*id));
                }
                for test in after {
                    let head = changes.heads.contains(&test.id);
                    world.insert(test.id, Counted { head, ..test });
                }
                for (id, head) in changes.turned {
                    world.get_mut(&id).unwrap().head = head;
                }
                for (technique, delta) in changes.techniques {
                    let sum = techniques.entry(technique).or_default();
                    sum.n += delta.n;
                    sum.validated += delta.validated;
                    (0..3).for_each(|i| sum.heads[i] += delta.heads[i]);
                    for (platform, n) in delta.platforms {
                        *sum.platforms.entry(platform).or_default() += n;
                    }
                    let is_head = |t: &&Counted| t.head && t.technique_id == Some(technique);
                    let newest = world.values().filter(is_head).map(|t| t.validated_at).max().flatten();
                    if !delta.lost {
                        prop_assert!(delta.newest <= newest);
                    }
                }
                for (state, n) in changes.states {
                    *states.entry(state).or_default() += n;
                }
                let tests: Vec<Counted> = world.values().cloned().collect();
                let (mut expected, expected_states) = counted(&tests);
                for sum in techniques.values_mut() {
                    sum.platforms.retain(|_, n| *n != 0);
                }
                techniques.retain(|_, sum| sum.n != 0);
                states.retain(|_, n| *n != 0);
                expected.retain(|_, sum| sum.n != 0);
                prop_assert_eq!(&techniques, &expected);
                prop_assert_eq!(&states, &expected_states);
                for test in &tests {
                    let newest = heads(tests.iter());
                    prop_assert_eq!(test.head, newest.contains_key(&test.id));
                }
            }
        }
    }
}
