//! The Prometheus recorder, and what each metric means.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use crate::supervisor::Statuses;

/// Seconds; a delivery on a quiet machine takes milliseconds, one through an outage minutes.
const DURATION_BUCKETS: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0];
/// Between two rounds in which histograms are emptied of what nobody scraped.
const UPKEEP_EVERY: Duration = Duration::from_secs(5);

/// Makes the process's recorder. To be called once, before the first metric.
pub fn install() -> Result<PrometheusHandle, String> {
    let duration = Matcher::Full("trestle_delivery_duration_seconds".into());
    let builder =
        PrometheusBuilder::new().set_buckets_for_metric(duration, DURATION_BUCKETS).map_err(|e| e.to_string())?;
    let handle = builder.install_recorder().map_err(|error| format!("metrics cannot be recorded: {error}"))?;
    describe();
    gauge!("trestle_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    // It shows up before its first event, which a rate would miss else.
    counter!("trestle_config_reload_failures_total").increment(0);
    Ok(handle)
}

/// Keeps the recorder small where nobody scrapes it. Runs for ever.
pub async fn upkeep(handle: PrometheusHandle) {
    loop {
        tokio::time::sleep(UPKEEP_EVERY).await;
        handle.run_upkeep();
    }
}

/// The page without the series of hops that are not there any more, which the recorder never forgets.
pub fn of(page: &str, statuses: &Statuses) -> String {
    let hops: BTreeSet<(&str, &str)> = statuses.iter().map(|status| (status.route.as_str(), status.hop)).collect();
    let is_there = |line: &&str| match (label(line, "{route=\""), label(line, ",hop=\"")) {
        (Some(route), Some(hop)) => hops.contains(&(route, hop)),
        _ => true,
    };
    page.lines().filter(is_there).flat_map(|line| [line, "\n"]).collect()
}

/// What the hops show, read from the page: what the API tells is what the metrics say.
#[derive(Default)]
pub struct Readings(BTreeMap<(String, String, String), BTreeMap<Option<u32>, f64>>);

impl Readings {
    /// The sum over all partitions and causes; nothing where the hop does not show it.
    pub fn of(&self, route: &str, hop: &str, metric: &str) -> Option<f64> {
        Some(self.0.get(&(route.into(), hop.into(), metric.into()))?.values().sum())
    }

    pub fn partitions(&self, route: &str, hop: &str, metric: &str) -> BTreeMap<u32, f64> {
        let found = self.0.get(&(route.into(), hop.into(), metric.into())).into_iter().flatten();
        found.filter_map(|(partition, value)| Some(((*partition)?, *value))).collect()
    }
}

/// Of every hop that ever was.
pub fn readings(page: &str) -> Readings {
    let mut readings = Readings::default();
    for line in page.lines() {
        let (Some(route), Some(hop)) = (label(line, "{route=\""), label(line, ",hop=\"")) else { continue };
        let Some((metric, _)) = line.split_once('{') else { continue };
        let Some(value) = line.rsplit(' ').next().and_then(|value| value.parse::<f64>().ok()) else { continue };
        let partition = label(line, ",partition=\"").and_then(|number| number.parse().ok());
        let of = readings.0.entry((route.into(), hop.into(), metric.into())).or_default();
        *of.entry(partition).or_default() += value;
    }
    readings
}

/// The value behind these characters; those of routes and hops need no escape.
fn label<'a>(line: &'a str, behind: &str) -> Option<&'a str> {
    let (_, value) = line.split_once(behind)?;
    value.split_once('"').map(|(value, _)| value)
}

fn describe() {
    let counters = [
        ("trestle_messages_received_total", "Messages read for the first time"),
        ("trestle_messages_redelivered_total", "Messages read again because they were not settled"),
        ("trestle_messages_delivered_total", "Messages that the target's broker confirmed"),
        ("trestle_messages_dead_lettered_total", "Messages that the dead-letter topic's broker confirmed, by cause"),
        ("trestle_messages_filtered_total", "Messages that do not go on: left out by a transform, or come round"),
        ("trestle_retries_total", "Sends that were tried again, by cause"),
        ("trestle_order_breaks_total", "Messages stored behind one that was not"),
        ("trestle_restarts_total", "Hops that were started again because a part of them ended, by part and cause"),
        (
            "trestle_config_reload_failures_total",
            "Route tables that were wrong, or could not be read, while others ran",
        ),
        ("trestle_gaps_total", "Times that a source had lost what was to be read next"),
    ];
    for (name, text) in counters {
        describe_counter!(name, Unit::Count, text);
    }
    describe_counter!(
        "trestle_bytes_delivered_total",
        Unit::Bytes,
        "Bytes of messages that the target's broker confirmed"
    );
    describe_histogram!("trestle_delivery_duration_seconds", Unit::Seconds, "From received to settled");
    let gauges = [
        ("trestle_in_flight_messages", Unit::Count, "Messages received and not settled"),
        ("trestle_in_flight_bytes", Unit::Bytes, "Bytes of messages received and not settled"),
        (
            "trestle_oldest_unsettled_age_seconds",
            Unit::Seconds,
            "Since the oldest message that is not settled was received",
        ),
        ("trestle_lag_seconds", Unit::Seconds, "The same as trestle_oldest_unsettled_age_seconds"),
        ("trestle_lag_messages", Unit::Count, "How far a partition's position is behind its end"),
        ("trestle_gate_closed", Unit::Count, "1 while the target partition cannot take anything"),
        ("trestle_set_aside_messages", Unit::Count, "Messages that failed and wait apart while others pass them"),
        ("trestle_paused_partitions", Unit::Count, "Source partitions without credit"),
        ("trestle_route_up", Unit::Count, "1 while the hop runs"),
        (
            "trestle_dead_letters_stopped",
            Unit::Count,
            "1 once there were too many dead letters: the route waits for a person",
        ),
        ("trestle_route_paused", Unit::Count, "1 while a person has paused the route"),
        ("trestle_build_info", Unit::Count, "The version that runs"),
        (
            "trestle_config_generation",
            Unit::Count,
            "Route tables that were taken over since the start, the first one included",
        ),
    ];
    for (name, unit, text) in gauges {
        describe_gauge!(name, unit, text);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::pipeline::Status;

    #[test]
    fn a_hop_that_is_gone_is_not_on_the_page() {
        let recorder = PrometheusBuilder::new().build_recorder();
        metrics::with_local_recorder(&recorder, || {
            for (route, hop) in [("orders", "stage"), ("orders", "deliver"), ("gone", "deliver")] {
                let labels = [("route", route), ("hop", hop), ("partition", "3")];
                gauge!("trestle_gate_closed", &labels).set(1.0);
                metrics::histogram!("trestle_delivery_duration_seconds", "route" => route, "hop" => hop).record(1.0);
            }
            gauge!("trestle_build_info", "version" => "1").set(1.0);
        });
        let page = of(&recorder.handle().render(), &Arc::from([Arc::new(Status::new("orders", "deliver"))]));
        assert!(page.contains("trestle_build_info{version=\"1\"} 1\n"), "{page}");
        let about_hops: Vec<_> = page.lines().filter(|line| line.contains("route=")).collect();
        assert!(about_hops.len() > 2, "{page}");
        assert!(about_hops.iter().all(|line| line.contains("route=\"orders\",hop=\"deliver\"")), "{page}");
    }

    #[test]
    fn what_the_hops_show_is_read_back_by_partition_and_in_all() {
        let recorder = PrometheusBuilder::new().build_recorder();
        metrics::with_local_recorder(&recorder, || {
            for (partition, behind) in [("0", 5.0), ("7", 2.0)] {
                let labels = [("route", "orders"), ("hop", "deliver"), ("partition", partition), ("unit", "messages")];
                gauge!("trestle_lag_messages", &labels).set(behind);
            }
            for cause in ["refused", "timeout"] {
                counter!("trestle_retries_total", "route" => "orders", "hop" => "deliver", "cause" => cause)
                    .increment(2);
            }
        });
        let read = readings(&recorder.handle().render());
        assert_eq!(read.of("orders", "deliver", "trestle_lag_messages"), Some(7.0));
        assert_eq!(read.of("orders", "deliver", "trestle_retries_total"), Some(4.0));
        assert_eq!(read.of("orders", "stage", "trestle_retries_total"), None);
        let lags = read.partitions("orders", "deliver", "trestle_lag_messages");
        assert_eq!(lags, BTreeMap::from([(0, 5.0), (7, 2.0)]));
    }
}
