//! What a member does that leads: the others' metadata come in, their assignments go out.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{Action, MILLISECOND, Membership, Phase};
use crate::group::ClusterSnapshot;
use crate::group::assignor::Decision;
use crate::group::protocol::{CONFIG_MISMATCH, MemberAssignment, MemberMetadata, PROTOCOLS};

/// What the leader knows of the group.
#[derive(Debug, Default)]
pub(super) struct Led {
    pub(super) decision: Decision,
    pub(super) urls: BTreeMap<String, String>,
    /// When the group has to be assigned anew, because a lost worker was waited for long enough.
    pub(super) again_at: Option<u64>,
}

impl Membership {
    /// On the leader: URLs by what they own.
    pub(in crate::group) fn owners(&self) -> BTreeMap<(String, Option<u32>), String> {
        let Some(led) = &self.led else { return BTreeMap::new() };
        let url = |id: &String| led.urls.get(id).cloned().unwrap_or_default();
        led.decision.owners.iter().map(|(resource, id)| (resource.clone(), url(id))).collect()
    }

    /// This member leads the round that was joined, with these members.
    pub(super) fn lead_with(&mut self, joined: Vec<(String, Bytes)>) {
        let mut members = BTreeMap::new();
        for (id, metadata) in joined {
            match MemberMetadata::decode(&metadata) {
                Ok(metadata) => {
                    members.insert(id, metadata);
                }
                Err(error) => {
                    // Left out, so that it gets nothing; the others go on.
                    tracing::error!(group = self.settings.group, member = id, "{error}");
                    self.problem = Some(format!("member {id}: {error}"));
                }
            }
        }
        if let Some((id, member)) = members.iter().find(|(_, member)| !member.ours)
            && !std::mem::replace(&mut self.warned, true)
        {
            tracing::warn!(
                group = self.settings.group,
                member = id,
                url = member.url,
                "a member of the group is a worker of another program; give these workers a group.id of their own"
            );
        }
        let latest = members.values().map(|member| member.config_offset).max().unwrap_or(-1);
        let refresh = (latest > self.snapshot_offset).then_some(latest);
        self.phase = Phase::Leading { members };
        self.out.push(Action::Ask { refresh });
    }

    pub(super) fn lead(&mut self, now: u64, members: BTreeMap<String, MemberMetadata>, snapshot: &ClusterSnapshot) {
        let version = PROTOCOLS.iter().find(|(name, _)| *name == self.protocol).map_or(1, |(_, version)| *version);
        let latest = members.values().map(|member| member.config_offset).max().unwrap_or(-1);
        let mut common = MemberAssignment {
            leader: self.member_id.clone(),
            leader_url: self.settings.url.clone(),
            config_offset: latest.max(snapshot.config_offset),
            ..MemberAssignment::default()
        };
        let mut decision = if snapshot.config_offset < latest {
            common.error = CONFIG_MISMATCH;
            Decision::default()
        } else {
            self.assignor.assign(now, self.generation, &members, snapshot)
        };
        let delay = decision.kept_until.map_or(0, |until| until.saturating_sub(now));
        common.delay_ms = i32::try_from(delay.div_ceil(MILLISECOND)).unwrap_or(i32::MAX);
        common.absences = std::mem::take(&mut decision.absences);
        let mut assignments = Vec::new();
        for id in members.keys() {
            let part = decision.members.remove(id).unwrap_or_default();
            let assignment = MemberAssignment {
                assigned: part.assigned,
                revoked: part.revoked,
                standbys: part.standbys,
                ..common.clone()
            };
            assignments.push((id.clone(), assignment.encode(version)));
        }
        let urls = members.into_iter().map(|(id, member)| (id, member.url)).collect();
        let again_at = if decision.unsettled { Some(now) } else { decision.kept_until };
        self.led = Some(Led { decision, urls, again_at });
        self.sync(now, assignments);
    }
}
