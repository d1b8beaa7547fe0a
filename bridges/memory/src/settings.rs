use std::{ops::RangeInclusive, time::Duration};

use trestle_core::Limits;

/// How a cluster behaves when nothing is wrong. Changed with [`Cluster::configure`](crate::Cluster::configure).
#[derive(Clone, Debug)]
pub struct Settings {
    /// Sends that a lane takes at once; a lane keeps the window it was opened with.
    pub window: usize,
    pub limits: Limits,
    /// Bytes of key, value and headers that a message may have together.
    pub max_message: usize,
    /// From the call of a send or probe to its answer.
    pub latency: RangeInclusive<Duration>,
    /// Messages that a source reads at once.
    pub fetch: RangeInclusive<usize>,
    /// Between two reads of one partition.
    pub fetch_delay: RangeInclusive<Duration>,
    /// Between a source's fault and its next attempt to read.
    pub source_backoff: Duration,
    /// A member that crashed is removed from its group after this time.
    pub session_timeout: Duration,
    /// A member whose `next` was not polled for this long loses its session.
    pub max_poll_interval: Duration,
    /// A member that was asked to give a partition back and did not for this long loses its session.
    pub rebalance_timeout: Duration,
    pub revokes: Revokes,
}

/// When a member hears that a partition goes to another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Revokes {
    /// Before; it is given away when the member lets it go (Kafka).
    Before,
    /// When another has it already: always `lost` (RocketMQ).
    After,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            window: 1,
            limits: Limits { unit_messages: 500, unit_bytes: 1 << 20 },
            max_message: 5 << 20,
            latency: Duration::ZERO..=Duration::ZERO,
            fetch: 1..=100,
            fetch_delay: Duration::ZERO..=Duration::ZERO,
            source_backoff: Duration::from_millis(100),
            session_timeout: Duration::from_secs(10),
            max_poll_interval: Duration::from_secs(300),
            rebalance_timeout: Duration::from_secs(60),
            revokes: Revokes::Before,
        }
    }
}
