//! What happened in a run, in the run's own time, for whoever looks into a failed seed.

use std::fmt;

use tokio::time::Instant;
use tracing_subscriber::fmt::{format::Writer, time::FormatTime};
use trestle_memory::{self as memory, Cluster};

use super::{
    oracle::{Facts, number},
    run::DEAD,
};

thread_local! {
    /// The run begins where time is first asked for.
    static BEGAN: Instant = Instant::now();
}

/// Logs everything from here on.
pub(super) fn begin() {
    tracing_subscriber::fmt().with_timer(Clock).with_test_writer().with_max_level(tracing::Level::DEBUG).init();
}

struct Clock;

impl FormatTime for Clock {
    fn format_time(&self, to: &mut Writer<'_>) -> fmt::Result {
        write!(to, "{:.3}", seconds(Instant::now()))
    }
}

fn seconds(at: Instant) -> f64 {
    BEGAN.with(|began| at.duration_since(*began).as_secs_f64())
}

/// Everything the brokers saw, in order.
pub(super) fn tell(cluster: &Cluster, facts: &Facts) {
    let mut lines = Vec::new();
    let mut line = |at, what: String| lines.push((seconds(at), what));
    for leg in &facts.legs {
        for p in 0..leg.inputs {
            for s in cluster.stored(leg.from, p).iter().filter(|s| s.by == memory::Writer::Test) {
                line(s.at, format!("{}/{p} at {} is {} {:?}", leg.from, s.offset, number(&s.message), s.message.key));
            }
        }
        for p in 0..leg.outputs {
            for s in cluster.sendings(leg.to, p) {
                line(s.at, format!("{}/{p} lane {} sends {:?}: {:?}", leg.to, s.lane, s.origins, s.answer));
            }
            for s in cluster.stored(leg.to, p) {
                let memory::Writer::Lane { lane, origin, .. } = s.by else { continue };
                line(s.at, format!("{}/{p} lane {lane} stored {} of {origin:?}", leg.to, number(&s.message)));
            }
        }
        for c in cluster.commits(leg.from, leg.group) {
            line(c.at, format!("{}/{} committed up to {} by {}", leg.from, c.partition, c.next, c.member));
        }
    }
    for s in cluster.stored(DEAD, 0) {
        line(s.at, format!("{DEAD} letter {} {:?}", number(&s.message), s.message.headers.get("trestle-dlq-cause")));
    }
    lines.sort_by(|a, b| a.0.total_cmp(&b.0));
    lines.iter().for_each(|(at, what)| eprintln!("{at:.3} {what}"));
    eprintln!("poisoned: {:?}, defective: {:?}, cuts: {:?}", facts.poisoned, facts.defective, facts.cuts);
}
