use std::collections::{BTreeMap, BTreeSet, VecDeque};

use tokio::time::Instant;
use trestle_core::Fault;

use crate::{Revokes, Settings};

/// A commit that a member made or tried to make.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Commit {
    pub partition: u32,
    /// The first offset that is not read yet.
    pub next: u64,
    /// Different for each session; a later session has a larger number.
    pub member: u64,
    pub at: Instant,
}

/// One group on one topic: who reads what, and how far. Time-outs are noticed when the group is touched; every member
/// wakes at [`Group::deadline`] to do so.
#[derive(Default)]
pub(crate) struct Group {
    members: BTreeMap<u64, Member>,
    owners: BTreeMap<u32, u64>,
    pub committed: BTreeMap<u32, u64>,
    pub commits: Vec<Commit>,
    /// Refused, because the partition was another's by then.
    pub zombie_commits: Vec<Commit>,
    /// One a commit, first come first served.
    pub commit_faults: VecDeque<Fault>,
    /// Counted, so that the members are woken.
    pub rebalances: u64,
}

struct Member {
    seen: Instant,
    crashed: Option<Instant>,
    /// To be told to the member: taken away already.
    lost: BTreeSet<u32>,
    /// To be told to the member: asked back.
    asked: BTreeSet<u32>,
    /// To be told to the member: its own now.
    incoming: BTreeSet<u32>,
    /// Told that it is asked back, and when.
    revoking: BTreeMap<u32, Instant>,
}

/// What a member has to be told.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// The whole session is over; join again.
    Expelled,
    Lost(Vec<u32>),
    Revoke(Vec<u32>),
    Assigned(Vec<u32>),
}

impl Group {
    pub fn join(&mut self, member: u64, partitions: u32, settings: &Settings) {
        let new = Member {
            seen: Instant::now(),
            crashed: None,
            lost: BTreeSet::new(),
            asked: BTreeSet::new(),
            incoming: BTreeSet::new(),
            revoking: BTreeMap::new(),
        };
        self.members.insert(member, new);
        self.rebalance(partitions, settings);
    }

    /// Ends a session at once: the member leaves, or is expelled.
    pub fn remove(&mut self, member: u64, partitions: u32, settings: &Settings) {
        if self.members.remove(&member).is_some() {
            self.owners.retain(|_, owner| *owner != member);
            self.rebalance(partitions, settings);
        }
    }

    /// The member vanished without a word; its session runs on for a while.
    pub fn crashed(&mut self, member: u64) {
        if let Some(member) = self.members.get_mut(&member) {
            member.crashed.get_or_insert_with(Instant::now);
        }
    }

    /// The member asks what is new.
    pub fn poll(&mut self, member: u64, partitions: u32, settings: &Settings) -> Option<News> {
        self.expire(partitions, settings);
        let now = Instant::now();
        let Some(member) = self.members.get_mut(&member) else { return Some(News::Expelled) };
        member.seen = now;
        let take =
            |set: &mut BTreeSet<u32>| (!set.is_empty()).then(|| std::mem::take(set).into_iter().collect::<Vec<_>>());
        if let Some(lost) = take(&mut member.lost) {
            return Some(News::Lost(lost));
        }
        if let Some(asked) = take(&mut member.asked) {
            member.revoking.extend(asked.iter().map(|p| (*p, now)));
            return Some(News::Revoke(asked));
        }
        take(&mut member.incoming).map(News::Assigned)
    }

    /// The member lets partitions go that it was asked for.
    pub fn release(&mut self, member: u64, released: &[u32], partitions: u32, settings: &Settings) {
        let Some(state) = self.members.get_mut(&member) else { return };
        for partition in released {
            if state.revoking.remove(partition).is_some() {
                self.owners.remove(partition);
            }
        }
        self.rebalance(partitions, settings);
    }

    pub fn commit(&mut self, member: u64, partition: u32, next: u64) -> Result<(), Fault> {
        if let Some(fault) = self.commit_faults.pop_front() {
            return Err(fault);
        }
        let commit = Commit { partition, next, member, at: Instant::now() };
        if self.owners.get(&partition) != Some(&member) {
            self.zombie_commits.push(commit);
            return Err(Fault::down(format!("memory: partition {partition} is no longer this member's")));
        }
        self.committed.insert(partition, next);
        self.commits.push(commit);
        Ok(())
    }

    /// When the next session is over, unless its member is heard of before.
    pub fn deadline(&self, settings: &Settings) -> Option<Instant> {
        self.members.values().map(|m| m.deadline(settings)).min()
    }

    pub fn members(&self) -> Vec<u64> {
        self.members.keys().copied().collect()
    }

    pub fn owner(&self, partition: u32) -> Option<u64> {
        self.owners.get(&partition).copied()
    }

    fn expire(&mut self, partitions: u32, settings: &Settings) {
        let now = Instant::now();
        let over = self.members.iter().filter(|(_, m)| m.deadline(settings) <= now);
        for member in over.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.remove(member, partitions, settings);
        }
    }

    /// Spreads the partitions evenly, moving as few as possible.
    pub fn rebalance(&mut self, partitions: u32, settings: &Settings) {
        self.rebalances += 1;
        for (partition, member) in self.spread(partitions) {
            let owner = self.owners.get(&partition).copied();
            let Some(state) = owner.and_then(|owner| self.members.get_mut(&owner)) else {
                self.give(partition, member);
                continue;
            };
            if owner == Some(member) {
                state.asked.remove(&partition);
            } else if state.incoming.remove(&partition) {
                self.give(partition, member);
            } else if settings.revokes == Revokes::After {
                state.lost.insert(partition);
                self.give(partition, member);
            } else if !state.revoking.contains_key(&partition) {
                state.asked.insert(partition);
            }
        }
    }

    fn give(&mut self, partition: u32, member: u64) {
        self.owners.insert(partition, member);
        if let Some(state) = self.members.get_mut(&member) {
            state.incoming.insert(partition);
        }
    }

    /// The member that should have each partition.
    fn spread(&self, partitions: u32) -> BTreeMap<u32, u64> {
        let mut spread = BTreeMap::new();
        let owned =
            |id: &u64| self.owners.iter().filter(|(_, owner)| *owner == id).map(|(p, _)| *p).collect::<Vec<_>>();
        let mut members: Vec<(u64, Vec<u32>)> = self.members.keys().map(|id| (*id, owned(id))).collect();
        members.sort_by_key(|(id, owned)| (std::cmp::Reverse(owned.len()), *id));
        let count = members.len().max(1) as u32;
        let mut rooms = VecDeque::new();
        for (nth, (id, owned)) in members.iter().enumerate() {
            let quota = partitions / count + u32::from((nth as u32) < partitions % count);
            let kept = owned.iter().take(quota as usize);
            spread.extend(kept.clone().map(|p| (*p, *id)));
            rooms.extend(std::iter::repeat_n(*id, quota as usize - kept.len()));
        }
        for partition in 0..partitions {
            if !spread.contains_key(&partition)
                && let Some(member) = rooms.pop_front()
            {
                spread.insert(partition, member);
            }
        }
        spread
    }
}

impl Member {
    fn deadline(&self, settings: &Settings) -> Instant {
        let alive = match self.crashed {
            Some(at) => at + settings.session_timeout,
            None => self.seen + settings.max_poll_interval,
        };
        let revoked = self.revoking.values().min().map(|since| *since + settings.rebalance_timeout);
        revoked.map_or(alive, |revoked| revoked.min(alive))
    }
}
