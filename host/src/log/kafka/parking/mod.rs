//! Parking: sink tasks without records cost next to nothing.
//!
//! A consumer of librdkafka costs four threads that look around once a second, a heartbeat every three seconds and a fetch every
//! two, whether records come or not. A consumer that has had nothing for a while is therefore *parked*: its client is closed
//! without leaving the group, and one thread for the whole worker, the parking lot, keeps the memberships of all parked consumers
//! alive and watches their partitions, over one connection or two a broker.
//!
//! | File | Noun |
//! |---|---|
//! | `consumer` | [`ParkingConsumer`]: the consumer of a sink task, which parks and comes back |
//! | `lot` | the thread, and the clusters that it looks after |
//! | `site` | one cluster: its connections and the requests on them |
//! | `book` | who is parked where: what to ask when, and what answers mean. No I/O |
//! | `slot` | what passes between a consumer and the lot |
//!
//! Promises: the group sees the member as before, with its heartbeats at its own interval. A parked consumer goes on at the very
//! offset at which its client had found the end of the partition, so that nothing is lost or repeated. It comes back as soon as a
//! broker answers the fetch that waits for the first record: its new client only reads, and the lot keeps the membership,
//! so that no group is joined, nobody is fenced and nothing is rebalanced.
//!
//! What the group does ends it: when a heartbeat is answered with a rebalance, or the topics' partitions change, the task gives
//! its partitions up as always, and a client of librdkafka joins the group as always. A member that the group no longer
//! knows has lost its partitions; one whose `group.instance.id` another consumer has taken over fails, as librdkafka's would.
//!
//! Fails: brokers that are away are tried again inside and logged at most once in ten seconds. One that refuses TLS or SASL, also with
//! the certificates that the files have now, or that cannot be understood concerns only what was asked of it: clients of librdkafka read what it
//! leads, and join the groups that it coordinates. While brokers are away parked
//! consumers stay parked, without clients of their own that try to connect; what must not go on for longer than a session (reading on) does not.
//!
//! Not parked: consumers that are not static members, those of `topics.regex`, those of the newer consumer protocol
//! (`group.protocol=consumer`), and those of settings that only librdkafka understands.

mod book;
mod consumer;
mod lot;
mod site;
mod slot;

pub(super) use consumer::{ParkingConsumer, possible};
pub(super) use lot::ParkingLot;
