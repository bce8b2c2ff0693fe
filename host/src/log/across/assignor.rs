//! Who reads what: Kafka's `range`. Of each topic, members get neighbouring partitions in the order of their names, so that partitions of one
//! number of two topics with as many are in one member.

use std::collections::BTreeMap;

/// Partitions by topic.
pub(super) type Assigned = BTreeMap<String, Vec<i32>>;

/// A member that wants partitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Subscriber {
    pub(super) id: String,
    /// `group.instance.id`: static members are ordered by it, so that one that comes back has the same partitions.
    pub(super) instance: Option<String>,
    pub(super) topics: Vec<String>,
}

/// Partitions by member id. `partitions`: how many each topic has; topics that are not in it have none.
pub(super) fn range(members: &[Subscriber], partitions: &BTreeMap<String, i32>) -> BTreeMap<String, Assigned> {
    let mut order: Vec<_> = members.iter().collect();
    // As in Kafka: static ones first.
    order.sort_by_key(|member| (member.instance.is_none(), member.instance.clone(), member.id.clone()));
    let mut assigned: BTreeMap<_, _> = members.iter().map(|member| (member.id.clone(), Assigned::new())).collect();
    for (topic, count) in partitions {
        let its: Vec<_> = order.iter().filter(|member| member.topics.contains(topic)).collect();
        let (Ok(count), members) = (usize::try_from(*count), its.len()) else { continue };
        let mut from = 0;
        for (number, member) in its.into_iter().enumerate() {
            let to = from + count / members + usize::from(number < count % members);
            if to > from
                && let Some(all) = assigned.get_mut(&member.id)
            {
                all.insert(topic.clone(), (from as i32..to as i32).collect());
            }
            from = to;
        }
    }
    assigned
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn member(id: &str, instance: Option<&str>, topics: &[&str]) -> Subscriber {
        Subscriber {
            id: id.to_owned(),
            instance: instance.map(str::to_owned),
            topics: topics.iter().map(|topic| (*topic).to_owned()).collect(),
        }
    }

    #[test]
    fn equal_numbers_meet_and_static_members_come_first() {
        let members =
            [member("x", None, &["a", "b"]), member("z", Some("c-0"), &["a", "b"]), member("y", None, &["a"])];
        let assigned = range(&members, &[("a".to_owned(), 5), ("b".to_owned(), 5), ("c".to_owned(), 9)].into());
        let of = |id: &str, topic: &str| assigned[id].get(topic).cloned().unwrap_or_default();
        assert_eq!((of("z", "a"), of("x", "a"), of("y", "a")), (vec![0, 1], vec![2, 3], vec![4]));
        assert_eq!((of("z", "b"), of("x", "b"), of("y", "b")), (vec![0, 1, 2], vec![3, 4], vec![]));
    }

    proptest! {
        #[test]
        fn each_partition_has_one_member_and_shares_are_even(members in 1..9_usize, counts in prop::collection::vec(0..40_i32, 1..4)) {
            let names: Vec<String> = (0..counts.len()).map(|topic| format!("t{topic}")).collect();
            let topics: Vec<&str> = names.iter().map(String::as_str).collect();
            let members: Vec<_> = (0..members).map(|id| member(&format!("m{id}"), None, &topics)).collect();
            let partitions = names.iter().cloned().zip(counts.iter().copied()).collect();
            let assigned = range(&members, &partitions);
            for (topic, count) in &partitions {
                let shares: Vec<_> = assigned.values().map(|of| of.get(topic).cloned().unwrap_or_default()).collect();
                let mut all: Vec<i32> = shares.concat();
                all.sort_unstable();
                prop_assert_eq!(all, (0..*count).collect::<Vec<_>>());
                let sizes = shares.iter().map(Vec::len);
                prop_assert!(sizes.clone().max().unwrap_or(0) - sizes.min().unwrap_or(0) <= 1);
            }
        }
    }
}
