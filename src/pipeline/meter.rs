//! The hop's metrics: handles made once, touched once a batch or slice.

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use trestle_core::{Batch, Cause, PartitionId, Slice};

pub(crate) struct Meter {
    route: String,
    hop: &'static str,
    received: Counter,
    redelivered: Counter,
    delivered: Counter,
    bytes_delivered: Counter,
    duration: Histogram,
    in_flight_messages: Gauge,
    in_flight_bytes: Gauge,
    order_breaks: Counter,
    gaps: Counter,
    set_aside: Gauge,
    pub paused_partitions: Gauge,
    pub oldest_unsettled_age: Gauge,
    pub lag_seconds: Gauge,
    pub route_up: Gauge,
    /// 1 once there were too many dead letters.
    pub dead_letters_stopped: Gauge,
}

impl Meter {
    pub fn new(route: &str, hop: &'static str) -> Self {
        let labels = [("route", route.to_owned()), ("hop", hop.to_owned())];
        let meter = Meter {
            route: route.to_owned(),
            hop,
            received: counter!("trestle_messages_received_total", &labels),
            redelivered: counter!("trestle_messages_redelivered_total", &labels),
            delivered: counter!("trestle_messages_delivered_total", &labels),
            bytes_delivered: counter!("trestle_bytes_delivered_total", &labels),
            duration: histogram!("trestle_delivery_duration_seconds", &labels),
            in_flight_messages: gauge!("trestle_in_flight_messages", &labels),
            in_flight_bytes: gauge!("trestle_in_flight_bytes", &labels),
            order_breaks: counter!("trestle_order_breaks_total", &labels),
            gaps: counter!("trestle_gaps_total", &labels),
            set_aside: gauge!("trestle_set_aside_messages", &labels),
            paused_partitions: gauge!("trestle_paused_partitions", &labels),
            oldest_unsettled_age: gauge!("trestle_oldest_unsettled_age_seconds", &labels),
            lag_seconds: gauge!("trestle_lag_seconds", &labels),
            route_up: gauge!("trestle_route_up", &labels),
            dead_letters_stopped: gauge!("trestle_dead_letters_stopped", &labels),
        };
        // A counter that shows up only with its first event hides that event from a rate.
        for counter in [&meter.received, &meter.redelivered, &meter.delivered, &meter.order_breaks, &meter.gaps] {
            counter.increment(0);
        }
        // The hop may have been another one before, by an earlier table.
        meter.dead_letters_stopped.set(0.0);
        meter
    }

    pub fn received(&self, batch: &Batch) {
        self.received.increment((batch.messages.len() - batch.repeated) as u64);
        self.redelivered.increment(batch.repeated as u64);
        self.in_flight_messages.increment(batch.messages.len() as f64);
        self.in_flight_bytes.increment(batch.bytes as f64);
    }

    /// A batch is gone, settled or not.
    pub fn released(&self, messages: usize, bytes: usize) {
        self.in_flight_messages.decrement(messages as f64);
        self.in_flight_bytes.decrement(bytes as f64);
    }

    pub fn delivered(&self, slice: &Slice) {
        self.delivered.increment(slice.len() as u64);
        self.bytes_delivered.increment(slice.bytes() as u64);
        self.duration.record_many(slice.batch().received.elapsed().as_secs_f64(), slice.len());
    }

    pub fn dead_lettered(&self, cause: Cause, slice: &Slice) {
        let labels =
            [("route", self.route.clone()), ("hop", self.hop.to_owned()), ("cause", cause.as_str().to_owned())];
        counter!("trestle_messages_dead_lettered_total", &labels).increment(slice.len() as u64);
        self.duration.record_many(slice.batch().received.elapsed().as_secs_f64(), slice.len());
    }

    /// Messages that do not go on, and why not: `transform`, or `loop`.
    pub fn filtered(&self, reason: &'static str, messages: usize) {
        if messages > 0 {
            let labels = [("route", self.route.clone()), ("hop", self.hop.to_owned()), ("reason", reason.to_owned())];
            counter!("trestle_messages_filtered_total", &labels).increment(messages as u64);
        }
    }

    pub fn retried(&self, cause: &'static str) {
        let labels = [("route", self.route.clone()), ("hop", self.hop.to_owned()), ("cause", cause.to_owned())];
        counter!("trestle_retries_total", &labels).increment(1);
    }

    pub fn order_breaks(&self, messages: usize) {
        self.order_breaks.increment(messages as u64);
    }

    /// A lane lets so many messages wait apart that it did not, or the reverse.
    pub fn set_aside(&self, before: usize, now: usize) {
        if before != now {
            self.set_aside.increment(now as f64 - before as f64);
        }
    }

    pub fn gap(&self) {
        self.gaps.increment(1);
    }

    pub fn gate(&self, partition: PartitionId, closed: bool) {
        self.partition_gauge("trestle_gate_closed", partition).set(if closed { 1.0 } else { 0.0 });
    }

    pub fn lag(&self, partition: PartitionId, behind: u64, unit: &'static str) {
        let labels = [
            ("route", self.route.clone()),
            ("hop", self.hop.to_owned()),
            ("partition", partition.to_string()),
            ("unit", unit.to_owned()),
        ];
        gauge!("trestle_lag_messages", &labels).set(behind as f64);
    }

    fn partition_gauge(&self, name: &'static str, partition: PartitionId) -> Gauge {
        let labels =
            [("route", self.route.clone()), ("hop", self.hop.to_owned()), ("partition", partition.to_string())];
        gauge!(name, &labels)
    }
}
