//! What a group calls the topics of another cluster.
//!
//! Brokers refuse offsets of topics that they do not have. A group that reads another cluster's topics therefore has a stand-in for each of
//! them in its own cluster: a topic without records, with as many partitions, under whose name the group keeps the offsets.
//!
//! The name has the topic's id, too. In one cluster, a group's offsets go with a topic that is deleted; here, a topic that is made anew under the
//! name of an earlier one has another stand-in, and so begins without offsets.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// In place of an id, where the brokers have none (before Kafka 2.8).
const NO_ID: &str = "none";
/// Characters of an id as Kafka writes it: 16 bytes, base64url.
const ID: usize = 22;

/// Names of stand-ins: `<group.id>.<topic>.<id of the topic>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StandIns {
    prefix: String,
}

impl StandIns {
    /// Those of a group.
    pub fn new(group: &str) -> Self {
        Self { prefix: format!("{group}.") }
    }

    /// What stands for a topic with this id (32 hexadecimal digits).
    pub fn name(&self, topic: &str, id: Option<&str>) -> String {
        let bytes = id.and_then(|id| u128::from_str_radix(id, 16).ok()).map(u128::to_be_bytes);
        let id = bytes.map_or_else(|| id.unwrap_or(NO_ID).to_owned(), |bytes| URL_SAFE_NO_PAD.encode(bytes));
        format!("{}{topic}.{id}", self.prefix)
    }

    /// The topic that one stands for; `None` if it is no stand-in of this group.
    pub fn topic<'a>(&self, stand_in: &'a str) -> Option<&'a str> {
        let (topic, _) = stand_in.strip_prefix(&self.prefix)?.rsplit_once('.')?;
        Some(topic).filter(|topic| !topic.is_empty())
    }

    /// Whether a topic is a stand-in of any group between two clusters: `…-from-<id of a cluster>.<topic>.<id of the topic>`.
    pub fn are_named_like(topic: &str) -> bool {
        let is_id =
            |text: &str| text.len() == ID && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
        let Some((before, id)) = topic.rsplit_once('.') else { return false };
        let group_of = |(at, mark): (usize, &str)| {
            let (cluster, topic) = before[at + mark.len()..].split_once('.')?;
            (is_id(cluster) && !topic.is_empty()).then_some(())
        };
        (is_id(id) || id == NO_ID) && before.match_indices("-from-").any(|found| group_of(found).is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_both_ways_and_have_the_id() {
        let names = StandIns::new("connect-copy-from-abc");
        let name = names.name("or.ders", Some("000102030405060708090a0b0c0d0eff"));
        assert_eq!(name, "connect-copy-from-abc.or.ders.AAECAwQFBgcICQoLDA0O_w");
        assert_eq!(names.topic(&name), Some("or.ders"));
        assert_eq!(names.topic(&names.name("orders", None)), Some("orders"));
        let others = [StandIns::new("g").name("orders", None), "orders".into(), "connect-copy-from-abc.x".into()];
        assert!(others.iter().all(|other| names.topic(other).is_none()), "{others:?}");
    }

    #[test]
    fn stand_ins_are_known_by_their_names() {
        let cluster = "5L6g3nShT-eMCtK--X86sw";
        let names = StandIns::new(&format!("connect-to-and-from-x-from-{cluster}"));
        let stand_in = names.name("orders", Some("000102030405060708090a0b0c0d0eff"));
        assert!(StandIns::are_named_like(&stand_in) && StandIns::are_named_like(&names.name("a.b", None)));
        let others = ["orders", "news-from-abroad.x", &format!("w-from-{cluster}-copy-changelog"), &stand_in[..60]];
        assert!(!others.iter().any(|other| StandIns::are_named_like(other)));
    }
}
