//! What members tell each other: Kafka's consumer protocol, as every tool that looks at groups reads it.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::consumer_protocol_assignment::TopicPartition as Share;
use kafka_protocol::messages::{ConsumerProtocolAssignment, ConsumerProtocolSubscription, TopicName};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};

use super::assignor::Assigned;

/// The type of the group, and the only assignor that its members offer.
pub(super) const PROTOCOL_TYPE: &str = "consumer";
/// See above.
pub(super) const PROTOCOL: &str = "range";

/// Newest version of both that is understood; later ones begin alike.
const NEWEST: i16 = 3;
/// The version that is written: nothing of later ones is needed by eager members.
const WRITTEN: i16 = 0;

/// The topics that a member wants.
pub(super) fn subscription<'a>(topics: impl IntoIterator<Item = &'a String>) -> Result<Bytes, String> {
    let topics = topics.into_iter().map(|topic| StrBytes::from_string(topic.clone())).collect();
    write(&ConsumerProtocolSubscription::default().with_topics(topics))
}

/// The same, read.
pub(super) fn subscribed(metadata: Bytes) -> Result<Vec<String>, String> {
    let read: ConsumerProtocolSubscription = read(metadata)?;
    Ok(read.topics.iter().map(|topic| topic.to_string()).collect())
}

/// What a member is given.
pub(super) fn assignment(assigned: &Assigned) -> Result<Bytes, String> {
    let share = |(topic, partitions): (&String, &Vec<i32>)| {
        Share::default().with_topic(TopicName(StrBytes::from_string(topic.clone()))).with_partitions(partitions.clone())
    };
    write(&ConsumerProtocolAssignment::default().with_assigned_partitions(assigned.iter().map(share).collect()))
}

/// The same, read. Nothing at all is nothing given.
pub(super) fn assigned(assignment: Bytes) -> Result<Assigned, String> {
    if assignment.is_empty() {
        return Ok(Assigned::new());
    }
    let read: ConsumerProtocolAssignment = read(assignment)?;
    Ok(read.assigned_partitions.into_iter().map(|share| (share.topic.0.to_string(), share.partitions)).collect())
}

fn write(message: &impl Encodable) -> Result<Bytes, String> {
    let mut bytes = BytesMut::new();
    bytes.put_i16(WRITTEN);
    message.encode(&mut bytes, WRITTEN).map_err(|error| format!("it cannot be written: {error}"))?;
    Ok(bytes.freeze())
}

fn read<T: Decodable>(mut bytes: Bytes) -> Result<T, String> {
    if bytes.len() < 2 {
        return Err("it has no version".to_owned());
    }
    let version = bytes.get_i16();
    if version < 0 {
        return Err(format!("version {version} is none"));
    }
    T::decode(&mut bytes, version.min(NEWEST)).map_err(|error| format!("it cannot be read: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let topics = ["a".to_owned(), "b".to_owned()];
        assert_eq!(subscribed(subscription(&topics).unwrap()).unwrap(), topics);
        let given = Assigned::from([("a".to_owned(), vec![0, 2]), ("b".to_owned(), vec![1])]);
        assert_eq!(assigned(assignment(&given).unwrap()).unwrap(), given);
        assert_eq!(assigned(Bytes::new()).unwrap(), Assigned::new());
        assert!(assigned(Bytes::from_static(&[0])).is_err() && subscribed(Bytes::from_static(&[0, 0, 9])).is_err());
    }

    /// As the Java client writes it: version 1, one topic, no user data, nothing owned.
    #[test]
    fn later_versions_are_read() {
        let bytes = Bytes::from_static(&[0, 1, 0, 0, 0, 1, 0, 1, b't', 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]);
        assert_eq!(subscribed(bytes).unwrap(), ["t"]);
    }
}
