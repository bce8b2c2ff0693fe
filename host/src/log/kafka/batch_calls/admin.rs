//! Requests about topics and groups. Rare, so each makes its own reply queue.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::c_char;
use std::ptr::{self, NonNull};
use std::time::Duration;

use rdkafka_sys as sys;
use rdkafka_sys::rd_kafka_admin_op_t as Op;
use rdkafka_sys::rd_kafka_resp_err_t as Code;

use super::super::super::{CommittedOffset, LogError, NewTopic, TopicDescription, TopicIdentity, TopicPartition};
use super::super::errors;
use super::{Client, PartitionList, c_string, millis, read_commits, read_list, text};

/// One request's reply.
struct Reply(NonNull<sys::rd_kafka_event_t>);

impl Drop for Reply {
    fn drop(&mut self) {
        // SAFETY: owned, and nothing read from it is kept.
        unsafe { sys::rd_kafka_event_destroy(self.0.as_ptr()) }
    }
}

/// Results of one request's items: an error code each.
unsafe fn topic_codes(topics: *mut *const sys::rd_kafka_topic_result_t, count: usize) -> Vec<Code> {
    // SAFETY: the caller passes what a live reply returned.
    unsafe { (0..count).map(|i| sys::rd_kafka_topic_result_error(*topics.add(i))).collect() }
}

/// The first error among a reply's groups and their partitions, or the offsets.
unsafe fn group_offsets(
    groups: *mut *const sys::rd_kafka_group_result_t,
    count: usize,
    operation: &str,
) -> Result<Vec<CommittedOffset>, LogError> {
    let mut offsets = Vec::new();
    for i in 0..count {
        // SAFETY: the caller passes what a live reply returned; the list and the error belong to the reply.
        let (list, commits) = unsafe {
            let group = *groups.add(i);
            let error = sys::rd_kafka_group_result_error(group);
            if !error.is_null() {
                errors::check(sys::rd_kafka_error_code(error), || operation.into())?;
            }
            let list = sys::rd_kafka_group_result_partitions(group);
            (read_list(list), read_commits(list))
        };
        for (partition, _, code) in list {
            errors::check(code, || format!("{operation}, {}-{}", partition.topic, partition.partition))?;
        }
        offsets.extend(commits);
    }
    Ok(offsets)
}

impl Client {
    /// Sends a request with `start` and waits for its reply.
    fn request(
        &mut self,
        op: Op,
        operation: &str,
        timeout: Duration,
        start: impl FnOnce(*mut sys::rd_kafka_t, *const sys::rd_kafka_AdminOptions_t, *mut sys::rd_kafka_queue_t),
    ) -> Result<Reply, LogError> {
        // SAFETY: the queue and the options are made, used and freed here. A reply that comes after the queue is
        // gone is freed by librdkafka.
        unsafe {
            let rk = self.rk();
            let queue = sys::rd_kafka_queue_new(rk);
            let options = sys::rd_kafka_AdminOptions_new(rk, op);
            let mut reason = [0 as c_char; 256];
            sys::rd_kafka_AdminOptions_set_request_timeout(options, millis(timeout), reason.as_mut_ptr(), reason.len());
            start(rk, options, queue);
            let reply = sys::rd_kafka_queue_poll(queue, millis(timeout + Duration::from_millis(500)));
            sys::rd_kafka_AdminOptions_destroy(options);
            sys::rd_kafka_queue_destroy(queue);
            let Some(reply) = NonNull::new(reply).map(Reply) else {
                return Err(LogError::retriable(format!(
                    "{operation}: no answer within {timeout:?}: check that a broker can be reached"
                )));
            };
            let code = sys::rd_kafka_event_error(reply.0.as_ptr());
            if code != Code::RD_KAFKA_RESP_ERR_NO_ERROR {
                let reason = text(sys::rd_kafka_event_error_string(reply.0.as_ptr()));
                let mut error = errors::from_code(code, operation);
                error.message = format!("{}: {reason}", error.message);
                return Err(error);
            }
            Ok(reply)
        }
    }

    /// The cluster's id.
    pub(in super::super) fn cluster_id(&mut self, timeout: Duration) -> Result<String, LogError> {
        // SAFETY: the handle is live; the text is owned and freed with librdkafka's own call.
        unsafe {
            let id = sys::rd_kafka_clusterid(self.rk(), millis(timeout));
            if id.is_null() {
                return Err(LogError::retriable(format!(
                    "reading the cluster id: no broker answered within {timeout:?}: check that a broker of bootstrap.servers runs and can be reached"
                )));
            }
            let copy = text(id);
            sys::rd_kafka_mem_free(self.rk(), id.cast());
            Ok(copy)
        }
    }

    /// Adds partitions to a topic, so that it has so many.
    pub(in super::super) fn create_partitions(
        &mut self,
        name: &str,
        partitions: i32,
        timeout: Duration,
    ) -> Result<(), LogError> {
        let operation = format!("adding partitions to topic {name}, for {partitions} in all");
        let topic = c_string(name)?;
        let count = usize::try_from(partitions).unwrap_or(0);
        let mut reason = [0 as c_char; 256];
        // SAFETY: the name is copied; the request is freed after it was sent.
        let reply = unsafe {
            let native = sys::rd_kafka_NewPartitions_new(topic.as_ptr(), count, reason.as_mut_ptr(), reason.len());
            if native.is_null() {
                return Err(LogError::fatal(format!("{operation}: {}", text(reason.as_ptr()))));
            }
            let reply =
                self.request(Op::RD_KAFKA_ADMIN_OP_CREATEPARTITIONS, &operation, timeout, |rk, options, queue| {
                    sys::rd_kafka_CreatePartitions(rk, [native].as_mut_ptr(), 1, options, queue);
                });
            sys::rd_kafka_NewPartitions_destroy(native);
            reply?
        };
        // SAFETY: the reply is live while its items are read.
        let codes = unsafe {
            let mut count = 0;
            let result = sys::rd_kafka_event_CreatePartitions_result(reply.0.as_ptr());
            topic_codes(sys::rd_kafka_CreatePartitions_result_topics(result, &mut count), count)
        };
        match codes.into_iter().find(|code| *code != Code::RD_KAFKA_RESP_ERR_NO_ERROR) {
            // Another was faster: it has them, or is asked again.
            Some(Code::RD_KAFKA_RESP_ERR_INVALID_PARTITIONS) | None => Ok(()),
            Some(code) => Err(errors::from_code(code, &operation)),
        }
    }

    /// Topics with their partition counts: all, or the one named. A topic that is not there is left out.
    pub(in super::super) fn topics(
        &mut self,
        only: Option<&str>,
        timeout: Duration,
    ) -> Result<Vec<TopicDescription>, LogError> {
        let topic = only.map(|name| self.topic(name)).transpose()?;
        let mut metadata: *const sys::rd_kafka_metadata_t = ptr::null();
        // SAFETY: the handle and the topic are live; metadata is set on success, read, and freed.
        unsafe {
            let topic = topic.map_or(ptr::null_mut(), NonNull::as_ptr);
            let code =
                sys::rd_kafka_metadata(self.rk(), i32::from(only.is_none()), topic, &mut metadata, millis(timeout));
            errors::check(code, || only.map_or("listing topics".into(), |name| format!("describing topic {name}")))?;
            let mut topics = Vec::new();
            let mut failed = Ok(());
            for i in 0..(*metadata).topic_cnt as usize {
                let topic = &*(*metadata).topics.add(i);
                match topic.err {
                    Code::RD_KAFKA_RESP_ERR_NO_ERROR | Code::RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE => {
                        topics.push(TopicDescription { name: text(topic.topic), partitions: topic.partition_cnt });
                    }
                    Code::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART | Code::RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC => {}
                    code => {
                        failed = failed.and(errors::check(code, || format!("describing topic {}", text(topic.topic))))
                    }
                }
            }
            sys::rd_kafka_metadata_destroy(metadata);
            // In a list of all, a topic that may not be described is left out; asked for by name, it is an error.
            if only.is_some() {
                failed?;
            }
            Ok(topics)
        }
    }

    pub(in super::super) fn create_topic(&mut self, topic: &NewTopic, timeout: Duration) -> Result<bool, LogError> {
        let operation = format!("creating topic {}", topic.name);
        let name = c_string(&topic.name)?;
        let settings = topic
            .settings
            .iter()
            .map(|(k, v)| Ok((c_string(k)?, c_string(v)?)))
            .collect::<Result<Vec<_>, LogError>>()?;
        let mut reason = [0 as c_char; 256];
        // SAFETY: names and values are copied; the topic is freed after the request was sent.
        let reply = unsafe {
            let replication = topic.replication_factor.map_or(-1, i32::from);
            let native = sys::rd_kafka_NewTopic_new(
                name.as_ptr(),
                topic.partitions.unwrap_or(-1),
                replication,
                reason.as_mut_ptr(),
                reason.len(),
            );
            if native.is_null() {
                return Err(LogError::fatal(format!("{operation}: {}", text(reason.as_ptr()))));
            }
            for (key, value) in &settings {
                sys::rd_kafka_NewTopic_set_config(native, key.as_ptr(), value.as_ptr());
            }
            let reply = self.request(Op::RD_KAFKA_ADMIN_OP_CREATETOPICS, &operation, timeout, |rk, options, queue| {
                sys::rd_kafka_CreateTopics(rk, [native].as_mut_ptr(), 1, options, queue);
            });
            sys::rd_kafka_NewTopic_destroy(native);
            reply?
        };
        // SAFETY: the reply is live while its items are read.
        unsafe {
            let mut count = 0;
            let result = sys::rd_kafka_event_CreateTopics_result(reply.0.as_ptr());
            let topics = sys::rd_kafka_CreateTopics_result_topics(result, &mut count);
            for i in 0..count {
                let result = *topics.add(i);
                match sys::rd_kafka_topic_result_error(result) {
                    Code::RD_KAFKA_RESP_ERR_NO_ERROR => {}
                    Code::RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS => return Ok(false),
                    code => {
                        let mut error = errors::from_code(code, &operation);
                        let reason = text(sys::rd_kafka_topic_result_error_string(result));
                        if !reason.is_empty() {
                            error.message = format!("{}: {reason}", error.message);
                        }
                        return Err(error);
                    }
                }
            }
        }
        Ok(true)
    }

    pub(in super::super) fn delete_topic(&mut self, name: &str, timeout: Duration) -> Result<(), LogError> {
        let operation = format!("deleting topic {name}");
        let c_name = c_string(name)?;
        // SAFETY: as for creating.
        unsafe {
            let native = sys::rd_kafka_DeleteTopic_new(c_name.as_ptr());
            let reply = self.request(Op::RD_KAFKA_ADMIN_OP_DELETETOPICS, &operation, timeout, |rk, options, queue| {
                sys::rd_kafka_DeleteTopics(rk, [native].as_mut_ptr(), 1, options, queue);
            });
            sys::rd_kafka_DeleteTopic_destroy(native);
            let reply = reply?;
            let mut count = 0;
            let result = sys::rd_kafka_event_DeleteTopics_result(reply.0.as_ptr());
            let topics = sys::rd_kafka_DeleteTopics_result_topics(result, &mut count);
            topic_codes(topics, count).into_iter().try_for_each(|code| errors::check(code, || operation.clone()))
        }
    }

    /// Deletes what is before these offsets.
    pub(in super::super) fn delete_records(
        &mut self,
        before: &[(TopicPartition, i64)],
        timeout: Duration,
    ) -> Result<(), LogError> {
        let operation = "deleting records";
        let list = PartitionList::new(before.iter().map(|(partition, offset)| (partition, *offset)))?;
        // SAFETY: as for creating; the list is copied, and the one that is read belongs to the reply.
        unsafe {
            let native = sys::rd_kafka_DeleteRecords_new(list.0.as_ptr());
            let reply = self.request(Op::RD_KAFKA_ADMIN_OP_DELETERECORDS, operation, timeout, |rk, options, queue| {
                sys::rd_kafka_DeleteRecords(rk, [native].as_mut_ptr(), 1, options, queue);
            });
            sys::rd_kafka_DeleteRecords_destroy(native);
            let reply = reply?;
            let result = sys::rd_kafka_event_DeleteRecords_result(reply.0.as_ptr());
            for (partition, _, code) in read_list(sys::rd_kafka_DeleteRecords_result_offsets(result)) {
                errors::check(code, || format!("{operation} of {}-{}", partition.topic, partition.partition))?;
            }
            Ok(())
        }
    }

    pub(in super::super) fn topic_settings(
        &mut self,
        name: &str,
        timeout: Duration,
    ) -> Result<BTreeMap<String, String>, LogError> {
        let operation = format!("reading the settings of topic {name}");
        let c_name = c_string(name)?;
        // SAFETY: as for creating; names and values belong to the reply and are copied.
        unsafe {
            let native = sys::rd_kafka_ConfigResource_new(
                sys::rd_kafka_ResourceType_t::RD_KAFKA_RESOURCE_TOPIC,
                c_name.as_ptr(),
            );
            let reply =
                self.request(Op::RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS, &operation, timeout, |rk, options, queue| {
                    sys::rd_kafka_DescribeConfigs(rk, [native].as_mut_ptr(), 1, options, queue);
                });
            sys::rd_kafka_ConfigResource_destroy(native);
            let reply = reply?;
            let (mut resources, mut entries) = (0, 0);
            let result = sys::rd_kafka_event_DescribeConfigs_result(reply.0.as_ptr());
            let list = sys::rd_kafka_DescribeConfigs_result_resources(result, &mut resources);
            let mut settings = BTreeMap::new();
            for i in 0..resources {
                let resource = *list.add(i);
                errors::check(sys::rd_kafka_ConfigResource_error(resource), || operation.clone())?;
                let configs = sys::rd_kafka_ConfigResource_configs(resource, &mut entries);
                for j in 0..entries {
                    let entry = *configs.add(j);
                    settings.insert(
                        text(sys::rd_kafka_ConfigEntry_name(entry)),
                        text(sys::rd_kafka_ConfigEntry_value(entry)),
                    );
                }
            }
            Ok(settings)
        }
    }

    pub(in super::super) fn watermarks(
        &mut self,
        partition: &TopicPartition,
        timeout: Duration,
    ) -> Result<(i64, i64), LogError> {
        let topic = c_string(&partition.topic)?;
        let (mut low, mut high) = (0, 0);
        // SAFETY: the handle is live and the two results are ours.
        let code = unsafe {
            sys::rd_kafka_query_watermark_offsets(
                self.rk(),
                topic.as_ptr(),
                partition.partition,
                &mut low,
                &mut high,
                millis(timeout),
            )
        };
        errors::check(code, || format!("reading the offsets of {}-{}", partition.topic, partition.partition))?;
        Ok((low, high))
    }

    /// Next offsets, open transactions included, of several partitions in one request.
    pub(in super::super) fn end_offsets(
        &mut self,
        partitions: &[TopicPartition],
        timeout: Duration,
    ) -> Result<Vec<(TopicPartition, i64)>, LogError> {
        let latest = sys::rd_kafka_OffsetSpec_t::RD_KAFKA_OFFSET_SPEC_LATEST as i64;
        self.offsets_at(partitions, latest, "end", timeout)
    }

    /// First offsets of several partitions in one request.
    pub(in super::super) fn start_offsets(
        &mut self,
        partitions: &[TopicPartition],
        timeout: Duration,
    ) -> Result<Vec<(TopicPartition, i64)>, LogError> {
        let earliest = sys::rd_kafka_OffsetSpec_t::RD_KAFKA_OFFSET_SPEC_EARLIEST as i64;
        self.offsets_at(partitions, earliest, "beginning", timeout)
    }

    fn offsets_at(
        &mut self,
        partitions: &[TopicPartition],
        place: i64,
        called: &str,
        timeout: Duration,
    ) -> Result<Vec<(TopicPartition, i64)>, LogError> {
        let operation = &format!("reading the {called}s of partitions");
        let list = PartitionList::new(partitions.iter().map(|partition| (partition, place)))?;
        // SAFETY: the list is copied; elements belong to the reply and are read while it lives.
        unsafe {
            let reply = self.request(Op::RD_KAFKA_ADMIN_OP_LISTOFFSETS, operation, timeout, |rk, options, queue| {
                sys::rd_kafka_ListOffsets(rk, list.0.as_ptr(), options, queue);
            })?;
            let mut count = 0;
            let result = sys::rd_kafka_event_ListOffsets_result(reply.0.as_ptr());
            let infos = sys::rd_kafka_ListOffsets_result_infos(result, &mut count);
            let mut offsets = Vec::with_capacity(count);
            for i in 0..count {
                let element = &*sys::rd_kafka_ListOffsetsResultInfo_topic_partition(*infos.add(i));
                let partition = TopicPartition { topic: text(element.topic).into(), partition: element.partition };
                errors::check(element.err, || {
                    format!("reading the {called} of {}-{}", partition.topic, partition.partition)
                })?;
                offsets.push((partition, element.offset));
            }
            Ok(offsets)
        }
    }

    /// Ids and sizes of topics by name; those that do not exist are left out.
    pub(in super::super) fn topic_identities(
        &mut self,
        names: &[&str],
        timeout: Duration,
    ) -> Result<BTreeMap<String, TopicIdentity>, LogError> {
        let operation = match names {
            [name] => format!("describing topic {name}"),
            names => format!("describing {} topics", names.len()),
        };
        let c_names = names.iter().map(|name| c_string(name)).collect::<Result<Vec<_>, _>>()?;
        let mut pointers: Vec<_> = c_names.iter().map(|name| name.as_ptr()).collect();
        // SAFETY: the collection copies the names and is freed after the request was sent; what is read belongs to the reply.
        unsafe {
            let topics = sys::rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len());
            let reply =
                self.request(Op::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS, &operation, timeout, |rk, options, queue| {
                    sys::rd_kafka_DescribeTopics(rk, topics, options, queue);
                });
            sys::rd_kafka_TopicCollection_destroy(topics);
            let reply = reply?;
            let mut count = 0;
            let result = sys::rd_kafka_event_DescribeTopics_result(reply.0.as_ptr());
            let topics = sys::rd_kafka_DescribeTopics_result_topics(result, &mut count);
            let mut identities = BTreeMap::new();
            for i in 0..count {
                let topic = *topics.add(i);
                let name = text(sys::rd_kafka_TopicDescription_name(topic));
                let error = sys::rd_kafka_TopicDescription_error(topic);
                if !error.is_null() {
                    match sys::rd_kafka_error_code(error) {
                        Code::RD_KAFKA_RESP_ERR_NO_ERROR => {}
                        Code::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART => continue,
                        code => errors::check(code, || format!("describing topic {name}"))?,
                    }
                }
                let mut partitions = 0;
                sys::rd_kafka_TopicDescription_partitions(topic, &mut partitions);
                let partitions = i32::try_from(partitions).unwrap_or(i32::MAX);
                let id = sys::rd_kafka_TopicDescription_topic_id(topic);
                let (high, low) = if id.is_null() {
                    (0, 0)
                } else {
                    (sys::rd_kafka_Uuid_most_significant_bits(id), sys::rd_kafka_Uuid_least_significant_bits(id))
                };
                let id = (high != 0 || low != 0).then(|| format!("{high:016x}{low:016x}"));
                identities.insert(name, TopicIdentity { id, partitions });
            }
            Ok(identities)
        }
    }

    /// `host:port` of the brokers.
    pub(in super::super) fn brokers(&mut self, timeout: Duration) -> Result<BTreeSet<String>, LogError> {
        let mut metadata: *const sys::rd_kafka_metadata_t = ptr::null();
        // SAFETY: the handle is live; metadata is set on success, read, and freed.
        unsafe {
            let code = sys::rd_kafka_metadata(self.rk(), 0, ptr::null_mut(), &mut metadata, millis(timeout));
            errors::check(code, || "listing the brokers".into())?;
            let brokers = (0..(*metadata).broker_cnt as usize).map(|i| {
                let broker = &*(*metadata).brokers.add(i);
                format!("{}:{}", text(broker.host), broker.port)
            });
            let brokers = brokers.collect();
            sys::rd_kafka_metadata_destroy(metadata);
            Ok(brokers)
        }
    }

    /// The first offset at or after a time in milliseconds; `None` when there is no such record.
    pub(in super::super) fn offset_for_time(
        &mut self,
        partition: &TopicPartition,
        timestamp: i64,
        timeout: Duration,
    ) -> Result<Option<i64>, LogError> {
        let list = PartitionList::new([(partition, timestamp)].into_iter())?;
        let operation = || format!("looking up a time in {}-{}", partition.topic, partition.partition);
        // SAFETY: the handle and the list are live.
        let code = unsafe { sys::rd_kafka_offsets_for_times(self.rk(), list.0.as_ptr(), millis(timeout)) };
        errors::check(code, operation)?;
        list.check("looking up a time in")?;
        Ok(list.read().first().map(|(_, offset, _)| *offset).filter(|offset| *offset >= 0))
    }

    pub(in super::super) fn group_commits(
        &mut self,
        group: &str,
        timeout: Duration,
    ) -> Result<Vec<CommittedOffset>, LogError> {
        let operation = format!("reading the offsets of group {group}");
        let c_group = c_string(group)?;
        // SAFETY: as for creating; no list means all partitions.
        unsafe {
            let native = sys::rd_kafka_ListConsumerGroupOffsets_new(c_group.as_ptr(), ptr::null());
            let reply = self.request(
                Op::RD_KAFKA_ADMIN_OP_LISTCONSUMERGROUPOFFSETS,
                &operation,
                timeout,
                |rk, options, queue| {
                    sys::rd_kafka_ListConsumerGroupOffsets(rk, [native].as_mut_ptr(), 1, options, queue);
                },
            );
            sys::rd_kafka_ListConsumerGroupOffsets_destroy(native);
            let reply = reply?;
            let mut count = 0;
            let result = sys::rd_kafka_event_ListConsumerGroupOffsets_result(reply.0.as_ptr());
            let groups = sys::rd_kafka_ListConsumerGroupOffsets_result_groups(result, &mut count);
            let mut offsets = group_offsets(groups, count, &operation)?;
            offsets.retain(|commit| commit.offset >= 0);
            Ok(offsets)
        }
    }

    pub(in super::super) fn set_group_offsets(
        &mut self,
        group: &str,
        offsets: &[(TopicPartition, i64)],
        timeout: Duration,
    ) -> Result<(), LogError> {
        let operation = format!("setting the offsets of group {group}");
        let c_group = c_string(group)?;
        let list = PartitionList::new(offsets.iter().map(|(p, o)| (p, *o)))?;
        // SAFETY: as for creating; the list is copied.
        unsafe {
            let native = sys::rd_kafka_AlterConsumerGroupOffsets_new(c_group.as_ptr(), list.0.as_ptr());
            let reply = self.request(
                Op::RD_KAFKA_ADMIN_OP_ALTERCONSUMERGROUPOFFSETS,
                &operation,
                timeout,
                |rk, options, queue| {
                    sys::rd_kafka_AlterConsumerGroupOffsets(rk, [native].as_mut_ptr(), 1, options, queue);
                },
            );
            sys::rd_kafka_AlterConsumerGroupOffsets_destroy(native);
            let reply = reply?;
            let mut count = 0;
            let result = sys::rd_kafka_event_AlterConsumerGroupOffsets_result(reply.0.as_ptr());
            let groups = sys::rd_kafka_AlterConsumerGroupOffsets_result_groups(result, &mut count);
            group_offsets(groups, count, &operation).map(drop)
        }
    }

    pub(in super::super) fn remove_group_offsets(
        &mut self,
        group: &str,
        partitions: &[TopicPartition],
        timeout: Duration,
    ) -> Result<(), LogError> {
        let operation = format!("removing offsets of group {group}");
        let c_group = c_string(group)?;
        let list = PartitionList::new(partitions.iter().map(|p| (p, sys::RD_KAFKA_OFFSET_INVALID as i64)))?;
        // SAFETY: as for creating; the list is copied.
        unsafe {
            let native = sys::rd_kafka_DeleteConsumerGroupOffsets_new(c_group.as_ptr(), list.0.as_ptr());
            let reply = self.request(
                Op::RD_KAFKA_ADMIN_OP_DELETECONSUMERGROUPOFFSETS,
                &operation,
                timeout,
                |rk, options, queue| {
                    sys::rd_kafka_DeleteConsumerGroupOffsets(rk, [native].as_mut_ptr(), 1, options, queue);
                },
            );
            sys::rd_kafka_DeleteConsumerGroupOffsets_destroy(native);
            let reply = reply?;
            let mut count = 0;
            let result = sys::rd_kafka_event_DeleteConsumerGroupOffsets_result(reply.0.as_ptr());
            let groups = sys::rd_kafka_DeleteConsumerGroupOffsets_result_groups(result, &mut count);
            group_offsets(groups, count, &operation).map(drop)
        }
    }

    pub(in super::super) fn delete_group(&mut self, group: &str, timeout: Duration) -> Result<(), LogError> {
        let operation = format!("deleting group {group}");
        let c_group = c_string(group)?;
        // SAFETY: as for creating.
        unsafe {
            let native = sys::rd_kafka_DeleteGroup_new(c_group.as_ptr());
            let reply = self.request(Op::RD_KAFKA_ADMIN_OP_DELETEGROUPS, &operation, timeout, |rk, options, queue| {
                sys::rd_kafka_DeleteGroups(rk, [native].as_mut_ptr(), 1, options, queue);
            });
            sys::rd_kafka_DeleteGroup_destroy(native);
            let reply = reply?;
            let mut count = 0;
            let result = sys::rd_kafka_event_DeleteGroups_result(reply.0.as_ptr());
            let groups = sys::rd_kafka_DeleteGroups_result_groups(result, &mut count);
            group_offsets(groups, count, &operation).map(drop)
        }
    }
}
