//! How far the group is, as a group of the source cluster: for tools that look for lags there. Nobody reads these offsets to go on from them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::{GroupId, OffsetCommitRequest, TopicName};
use kafka_protocol::protocol::StrBytes;

use super::super::{ClientSettings, TopicPartition};
use super::shared::Shared;
use crate::group::wire::{Cluster, Connection, CoordinatorKind, WireError, WireErrorKind, WireSettings};

/// How often.
const EVERY: Duration = Duration::from_secs(5);
/// How long one try may take.
const WITHIN: Duration = Duration::from_secs(10);
/// How long the last one may take.
const LAST_WITHIN: Duration = Duration::from_secs(1);

/// Shows until the member is closed.
pub(super) async fn run(shared: Arc<Shared>, settings: ClientSettings) {
    let Some(group) = settings.get("group.id").cloned() else { return };
    let (mut connection, mut told) = (None, false);
    loop {
        _ = tokio::time::timeout(EVERY, shared.closed()).await;
        let last = shared.closing();
        let progress = shared.take_progress();
        if !progress.is_empty() {
            let within = if last { LAST_WITHIN } else { WITHIN };
            let shown = tokio::time::timeout(within, show(&settings, &group, &progress, &mut connection)).await;
            match shown {
                Ok(Ok(())) => told = false,
                failed => {
                    connection = None;
                    shared.put_back(progress);
                    if !std::mem::replace(&mut told, true) {
                        let reason = match failed {
                            Ok(Err(error)) => error.message,
                            _ => format!("no answer within {within:?}"),
                        };
                        tracing::warn!(
                            "the offsets of group {group} in the source cluster, which only show how far the connector is, do not follow for \
                             now: {reason}"
                        );
                    }
                }
            }
        }
        if last {
            return;
        }
    }
}

async fn show(
    settings: &ClientSettings,
    group: &str,
    progress: &BTreeMap<TopicPartition, i64>,
    connection: &mut Option<Connection>,
) -> Result<(), WireError> {
    let mut topics = BTreeMap::<&str, Vec<OffsetCommitRequestPartition>>::new();
    for (TopicPartition { topic, partition }, next) in progress {
        let offset =
            OffsetCommitRequestPartition::default().with_partition_index(*partition).with_committed_offset(*next);
        topics.entry(topic).or_default().push(offset);
    }
    let topics = topics.into_iter().map(|(topic, partitions)| {
        let name = TopicName(StrBytes::from_string(topic.to_owned()));
        OffsetCommitRequestTopic::default().with_name(name).with_partitions(partitions)
    });
    // By nobody: the group has no members.
    let request = OffsetCommitRequest::default()
        .with_group_id(GroupId(StrBytes::from_string(group.to_owned())))
        .with_generation_id_or_member_epoch(-1)
        .with_topics(topics.collect());
    let open = match connection {
        Some(open) => open,
        None => {
            let cluster = Cluster::new(WireSettings::new(settings)?);
            connection.insert(cluster.to_coordinator(CoordinatorKind::Group, group, WITHIN).await?)
        }
    };
    let answer = open.call(WITHIN, |_| request).await?;
    let codes = answer.topics.iter().flat_map(|topic| &topic.partitions);
    match codes.filter_map(|partition| ResponseError::try_from_code(partition.error_code)).next() {
        None => Ok(()),
        Some(code) => Err(WireError { kind: WireErrorKind::Code(code), message: code.to_string() }),
    }
}
